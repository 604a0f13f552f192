"""Speech for pretraining: many synthetic voices, texts and manners, with no label of any kind.

Every clip draws voice, text and prosody independently and uniformly, so nothing in the mixture
knows of emotions. The eSpeak variants of the demo corpus are left out: its voices stay unheard.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from make_demo_corpus import VOICES as DEMO_VOICES
from speech_synthesis import SAMPLE_RATE, Prosody, Voice, render, seed_praat

FEMALE = ("Female2", "Female3", "Annie", "Linda", "Steph", "Steph2", "Steph3")
MALE = (
    "Male1", "Male5", "Male6", "Male7", "Andy", "Denis", "Gene", "Gene2", "Iven", "Iven2", "Iven3",
    "Jacky", "John", "Kaukovalta", "Lee", "Mario", "Max", "Michael", "Michel", "Mr_Serious",
    "Quincy", "Rob", "Robert", "Storm", "Travis", "Tweaky", "Croak", "anxiousAndy", "Boris",
)  # fmt: skip
WHISPERED = ("Whisper", "Female_whisper")
ENGLISH = (
    "English (Great Britain)", "English (America)", "English (Scotland)", "English (Lancaster)",
    "English (Received Pronunciation)", "English (West Midlands)", "English (Caribbean)",
)  # fmt: skip
# all read the Latin alphabet; the words stay nonsense to them, the sounds are theirs
FOREIGN = (
    "German", "Dutch", "Swedish", "Danish", "Italian", "Spanish (Spain)", "Portuguese (Brazil)",
    "French (France)", "Polish", "Czech", "Finnish", "Hungarian", "Turkish", "Romanian", "Welsh",
    "Indonesian", "Swahili", "Estonian", "Croatian", "Vietnamese (Northern)", "Icelandic",
)  # fmt: skip
WORDS = tuple(Path(__file__).with_name("pretraining_words.txt").read_text().split())
FRAMES = (
    "{0}", "{0} {1}", "the {0} {1}", "say {0} and {1}", "where is the {0}", "I saw the {0} {1}",
    "{0}, {1}, {2}", "did you see the {0} with the {1}", "please bring the {0} to the {1}",
    "this {0} is {1} and {2}", "the word is {0}", "nobody knows the {0}", "we {0} when they {1}",
    "a {0} {1} {2} {3}", "give me the {0} of the {1}", "it was {0}, not {1}",
    "they say {0} is {1}", "you will {0} the {1}",
)  # fmt: skip
ONSETS = (
    "b", "bl", "br", "ch", "d", "dr", "f", "fl", "g", "gl", "h", "j", "k", "kl", "l", "m", "n",
    "p", "pl", "r", "s", "sh", "sk", "st", "str", "t", "th", "tr", "v", "w", "y", "z",
)  # fmt: skip
NUCLEI = ("a", "e", "i", "o", "u", "ai", "ee", "oo", "ou", "ar", "or", "er")
CODAS = (
    "", "", "b", "ck", "d", "f", "g", "l", "m", "n", "nd", "p", "s", "sh", "st", "t", "th", "z",
)  # fmt: skip


def pseudo_word(rng: np.random.Generator) -> str:
    """One to three made-up syllables: sounds without the statistics of a lexicon."""
    pick = lambda options: options[rng.integers(len(options))]  # noqa: E731
    return "".join(
        pick(ONSETS) + pick(NUCLEI) + pick(CODAS) for _ in range(rng.integers(1, 4))
    )  # fmt: skip


def sample_text(rng: np.random.Generator) -> str:
    """A short phrase."""
    words = [
        pseudo_word(rng) if rng.random() < 0.3 else WORDS[rng.integers(len(WORDS))]
        for _ in range(4)
    ]
    return FRAMES[rng.integers(len(FRAMES))].format(*words)


def sample_voice(rng: np.random.Generator) -> Voice:
    """A speaker: half of them female, one in fifty whispering."""
    sex = "female" if rng.random() < 0.5 else "male"
    pitch, tract = rng.uniform(0.8, 1.3), rng.uniform(0.90, 1.12)
    if rng.random() < 0.02:
        variant = WHISPERED[rng.integers(2)]
    elif sex == "male":
        variant = MALE[rng.integers(len(MALE))]
    elif rng.random() < 0.6:
        variant = FEMALE[rng.integers(len(FEMALE))]
    else:
        # eSpeak has few women: a raised man is one more (F0 x 1.8, tract 15 % shorter)
        variant = MALE[rng.integers(len(MALE))]
        pitch, tract = rng.uniform(1.6, 2.0), rng.uniform(1.10, 1.22)
    pool = ENGLISH if rng.random() < 0.65 else FOREIGN
    return Voice("any", sex, pool[rng.integers(len(pool))], variant, float(pitch), float(tract))


def sample_prosody(rng: np.random.Generator) -> Prosody:
    """A manner of speaking, each dimension drawn alone."""
    uniform = lambda low, high: float(rng.uniform(low, high))  # noqa: E731
    return Prosody(
        pitch=uniform(-5, 9), span=float(np.exp(uniform(-1.2, 1.1))), slope=uniform(-6, 6),
        final=uniform(-7, 9), rate=float(np.exp(uniform(-0.5, 0.4))), gain=uniform(-12, 14),
        tilt=uniform(-4, 5), breath=uniform(-30, -6) if rng.random() < 0.5 else -60.0,
        jitter=uniform(0, 0.05) if rng.random() < 0.5 else 0.0,
        shimmer=uniform(0, 2.5) if rng.random() < 0.5 else 0.0,
        tremor=uniform(0, 1.2) if rng.random() < 0.3 else 0.0,
    )  # fmt: skip


def _clips(task: tuple[int, int, int]) -> list[np.ndarray]:
    seed, first, count = task
    seed_praat(seed + first)
    waves = []
    for number in range(first, first + count):
        rng = np.random.default_rng([seed, number])
        try:
            wave = render(sample_voice(rng), sample_text(rng), sample_prosody(rng), rng)
        except Exception as error:  # a voice that Praat refuses is no reason to lose the hour
            print(f"clip {number}: {str(error).splitlines()[0]}", flush=True)
            continue
        edges = [np.zeros(int(SAMPLE_RATE * rng.uniform(0.05, 0.3))) for _ in range(2)]
        wave = np.concatenate([edges[0], wave[: 6 * SAMPLE_RATE], edges[1]])
        wave = wave + 10 ** (rng.uniform(-85, -60) / 20) * rng.standard_normal(len(wave))
        if len(wave) > SAMPLE_RATE:
            waves.append(np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16))
    return waves


def synthesise(out: Path, clips: int, seed: int, processes: int) -> None:
    """Write ``speech.npy`` (int16, all clips end to end) and ``speech.json`` (lengths)."""
    held_out = {voice.variant for voice in DEMO_VOICES}
    assert not held_out & {*FEMALE, *MALE, *WHISPERED}, "a demo voice is in the pretraining mixture"
    out.mkdir(parents=True, exist_ok=True)
    batch = 100
    tasks = [(seed, first, min(batch, clips - first)) for first in range(0, clips, batch)]
    with ProcessPoolExecutor(processes) as pool:
        waves = [wave for part in pool.map(_clips, tasks) for wave in part]
    np.save(out / "speech.npy", np.concatenate(waves))
    lengths = [len(wave) for wave in waves]
    (out / "speech.json").write_text(json.dumps({"seed": seed, "lengths": lengths}))
    print(f"{len(waves)} clips, {sum(lengths) / SAMPLE_RATE / 3600:.2f} hours")
