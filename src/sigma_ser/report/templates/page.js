"use strict";
// Theme: the choice of the reader, otherwise that of the system.
(() => {
  const root = document.documentElement;
  const remember = (theme) => { try { localStorage.setItem("sigma-ser-theme", theme); } catch { /* a page opened from disk may have no storage */ } };
  try { const stored = localStorage.getItem("sigma-ser-theme"); if (stored) root.dataset.theme = stored; } catch { /* as above */ }
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    remember(root.dataset.theme);
  });
})();

// Tables: sort by a heading; numbers by value, text alphabetically, missing values last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const key = (row, column) => {
    const cell = row.cells[column];
    const number = cell.querySelector("data")?.getAttribute("value") ?? cell.dataset.sort;
    const text = number ?? cell.textContent.trim();
    return text === "" || text === "–" || text === "None" ? null : isNaN(text) ? text : Number(text);
  };
  table.tHead.addEventListener("click", (event) => {
    const heading = event.target.closest("th");
    if (!heading) return;
    const ascending = heading.getAttribute("aria-sort") === "descending" || heading.getAttribute("aria-sort") === "none" && heading.cellIndex < 5;
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const sign = ascending ? 1 : -1;
    const keyed = [...body.rows].map((row) => [key(row, heading.cellIndex), row]);
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      if (typeof a === "number" && typeof b === "number") return sign * (a - b);
      return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
    });
    body.append(...keyed.map(([, row]) => row));
  });
}

// Input takes effect after a pause in typing, which keeps large pages responsive.
const debounced = (action) => {
  let timer;
  return () => { clearTimeout(timer); timer = setTimeout(action, 120); };
};

// Filter of the large table: every word must occur in the row.
(() => {
  const box = document.getElementById("filter");
  if (!box) return;
  const rows = [...document.getElementById("results").tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const status = document.getElementById("shown");
  const filter = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !words.every((word) => texts[i].includes(word));
      shown += !row.hidden;
    });
    status.textContent = `${shown} of ${rows.length} rows`;
  };
  box.addEventListener("input", debounced(filter));
  // A link to a row that the filter hides clears the filter.
  addEventListener("hashchange", () => {
    if (document.getElementById(location.hash.slice(1))?.hidden) {
      box.value = "";
      filter();
      document.getElementById(location.hash.slice(1)).scrollIntoView();
    }
  });
})();

// Single results: packed in the page, unpacked on first use.
const results = (() => {
  let data = null;
  return () => data ??= JSON.parse(document.getElementById("results-data").textContent);
})();
const words = (parts) => {
  const row = document.createElement("tr");
  for (const [tag, text, style] of parts) {
    const cell = document.createElement(tag);
    cell.textContent = text ?? "–";
    if (style) cell.className = style;
    row.append(cell);
  }
  return row;
};
const tableOf = (headings, rows) => {
  const table = document.createElement("table");
  table.createTHead().append(words(headings.map((heading) => ["th", heading])));
  const body = table.createTBody();
  body.append(...rows);
  return table;
};
const outcome = (correct, success) => correct ? success ? ["td", "attack succeeded", "outcome-success"] : ["td", "attack failed"] : ["td", "misclassified before"];
const methodText = (parts) => parts.filter((part) => part !== "–").join(", ");

// The id of a cell opens its single results.
(() => {
  const dialog = document.getElementById("rows");
  const most = 1000;
  document.getElementById("results")?.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-cell]");
    if (!link) return;
    event.preventDefault();
    const data = results();
    const [whose, correct, success, before, after, spearman, passes] = data.cells[link.dataset.cell] ?? [[], [], [], [], [], [], []];
    dialog.querySelector("h2").textContent = `${link.dataset.cell}: ${methodText(data.methods[link.dataset.cell])}`;
    dialog.querySelector("p").textContent = `${whose.length} results` + (whose.length > most ? `, of which the first ${most} are shown` : "") + ". All columns are in rows.parquet.";
    const rows = whose.slice(0, most).map((u, i) => words([
      ["th", data.utterances[u][0]], ["td", data.utterances[u][1]], ["td", data.utterances[u][2]],
      ["td", data.classes[before[i]]], ["td", data.classes[after[i]]], outcome(correct[i], success[i]),
      ["td", spearman[i]], ["td", passes[i]],
    ]));
    dialog.querySelector(".scroll").replaceChildren(tableOf(["Utterance", "Speaker", "Emotion", "Predicted before", "Predicted after", "Outcome", "Spearman", "Passes"], rows));
    dialog.showModal();
  });
})();

// Explorer: search for an utterance and show the outcome of every attack on it, with audio and
// pictures if the page contains them.
(() => {
  const picker = document.getElementById("picker");
  if (!picker) return;
  const most = 500;
  const element = (id) => document.getElementById(id);
  const articles = new Map([...document.querySelectorAll(".exemplar")].map((article) => [article.dataset.utterance, article]));
  const pick = element("pick-utterance");
  const silence = (part) => { for (const audio of part.querySelectorAll("audio")) audio.pause(); };
  let utterances = [];

  const prepare = () => {
    const data = results();
    const known = data.utterances.map(([id, speaker, label, text]) => ({ id, speaker, label, text, correct: false, success: false, at: [] }));
    for (const [cell, [whose, correct, success]] of Object.entries(data.cells)) {
      whose.forEach((u, i) => {
        known[u].at.push([cell, i]);
        if (correct[i]) { known[u].correct = true; known[u].success ||= !!success[i]; }
      });
    }
    const ids = new Set(known.map((one) => one.id));
    const only = [...articles.keys()].filter((id) => !ids.has(id)).map((id) => ({ id, speaker: "", label: "", text: "", correct: true, success: false, at: [] }));
    utterances = [...only, ...known].sort((a, b) => articles.has(b.id) - articles.has(a.id));
    for (const [id, key] of [["of-emotion", "label"], ["of-speaker", "speaker"]]) {
      const values = [...new Set(utterances.map((one) => one[key]).filter(Boolean))].sort();
      element(id).append(...values.map((value) => new Option(value, value)));
    }
  };
  const offer = () => {
    const wanted = pick.value;
    const find = element("find").value.toLowerCase();
    const [emotion, speaker, result] = ["of-emotion", "of-speaker", "of-outcome"].map((id) => element(id).value);
    const outcomes = { "1": (one) => one.success, "0": (one) => one.correct && !one.success, "-1": (one) => !one.correct, "2": (one) => articles.has(one.id) };
    const found = utterances.filter((one) =>
      (!find || `${one.id} ${one.speaker} ${one.text}`.toLowerCase().includes(find)) &&
      (!emotion || one.label === emotion) && (!speaker || one.speaker === speaker) &&
      (!result || outcomes[result](one)));
    pick.replaceChildren(...found.slice(0, most).map((one) => new Option(`${articles.has(one.id) ? "♪ " : ""}${one.id}, ${one.label}`, one.id)));
    if (found.some((one) => one.id === wanted)) pick.value = wanted;
    element("found").textContent = `${found.length} of ${utterances.length}` + (found.length > most ? `, of which the first ${most} are listed` : "");
    show();
  };
  const show = () => {
    for (const [id, article] of articles) {
      article.hidden = id !== pick.value;
      if (article.hidden) silence(article);
    }
    const one = utterances.find((candidate) => candidate.id === pick.value);
    const table = element("outcomes");
    table.hidden = !one?.at.length;
    if (table.hidden) return;
    const data = results();
    const rows = one.at.map(([cell, i]) => {
      const [, correct, success, before, after, spearman, passes] = data.cells[cell];
      const [method, ...parts] = data.methods[cell];
      return words([["th", method], ...parts.map((part) => ["td", part]), ["td", data.classes[before[i]]], ["td", data.classes[after[i]]], outcome(correct[i], success[i]), ["td", spearman[i]], ["td", passes[i]]]);
    });
    table.replaceChildren(tableOf(["Attack", "Victim", "Sparsity", "Bound", "Predicted before", "Predicted after", "Outcome", "Spearman", "Passes"], rows));
  };
  element("find").addEventListener("input", debounced(offer));
  for (const id of ["of-emotion", "of-speaker", "of-outcome"]) element(id).addEventListener("change", offer);
  pick.addEventListener("change", show);
  picker.addEventListener("submit", (event) => event.preventDefault());

  // Several attacks on one utterance: show one at a time.
  for (const article of articles.values()) {
    const attempts = [...article.querySelectorAll(".attempt")];
    const label = article.querySelector(".attempts");
    const choice = label.querySelector("select");
    choice.append(...attempts.map((part) => new Option(part.dataset.method)));
    const turn = () => attempts.forEach((part, i) => {
      part.hidden = i !== choice.selectedIndex;
      if (part.hidden) silence(part);
    });
    choice.addEventListener("change", turn);
    label.hidden = attempts.length < 2;
    turn();
  }
  // Unpacking is delayed, so that a page with many rows is displayed first.
  setTimeout(() => { prepare(); picker.hidden = false; offer(); }, 30);
  for (const [i, article] of [...articles.values()].entries()) article.hidden = i > 0;

  // One sound plays at a time. Its position is drawn in all pictures of the utterance. A click in a
  // picture plays the sound of this picture, or else the last one, from there.
  for (const article of articles.values()) {
    const time = article.querySelector(".time");
    let current = time.querySelector("audio");
    if (!current) continue;
    const seconds = Number(time.dataset.seconds);
    const draw = () => {
      for (const head of time.querySelectorAll(".head")) head.style.left = `${100 * current.currentTime / seconds}%`;
    };
    const follow = () => {
      draw();
      if (!current.paused) requestAnimationFrame(follow);
    };
    for (const audio of time.querySelectorAll("audio")) {
      audio.addEventListener("play", () => {
        for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
        current = audio;
        time.classList.add("playing");
        follow();
      });
      audio.addEventListener("seeked", () => { if (audio === current) draw(); });
      audio.addEventListener("ended", () => { if (audio === current) time.classList.remove("playing"); });
    }
    time.addEventListener("click", (event) => {
      const view = event.target.closest(".view");
      if (!view) return;
      const box = view.getBoundingClientRect();
      const audio = view.parentElement.querySelector("audio") ?? (current.closest("[hidden]") ? time.querySelector("audio") : current);
      audio.currentTime = Math.min(seconds * (event.clientX - box.left) / box.width, audio.duration || 0);
      // A sound that starts before this one has started ends its promise with an error.
      audio.play().catch(() => {});
    });
  }
})();
