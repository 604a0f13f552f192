"use strict";
// Theme: the reader's choice, else the system's.
(() => {
  const root = document.documentElement;
  const remember = (theme) => { try { localStorage.setItem("sigma-ser-theme", theme); } catch { /* a page from disk may have no store */ } };
  try { const kept = localStorage.getItem("sigma-ser-theme"); if (kept) root.dataset.theme = kept; } catch { /* likewise */ }
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    remember(root.dataset.theme);
  });
})();

// Tables: sort by a heading; numbers by value, words by letter, what is missing last.
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

// What is typed takes effect when the hand rests: a large page need not keep up with every key.
const rested = (action) => {
  let timer;
  return () => { clearTimeout(timer); timer = setTimeout(action, 120); };
};

// Filter of the large table: every word must occur in the line.
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
    status.textContent = `${shown} of ${rows.length} lines`;
  };
  box.addEventListener("input", rested(filter));
  // A link to a line that the filter hides shows it again.
  addEventListener("hashchange", () => {
    if (document.getElementById(location.hash.slice(1))?.hidden) {
      box.value = "";
      filter();
      document.getElementById(location.hash.slice(1)).scrollIntoView();
    }
  });
})();

// Rows: packed in the page, unpacked when first asked for.
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
const outcome = (right, fell) => right ? fell ? ["td", "fell", "fate-fell"] : ["td", "withstood"] : ["td", "wrong from the start"];
const methodText = ([method, panel, sparsity, epsilon]) => `${method}, ${panel}, ${+(100 * sparsity).toPrecision(3)}\u202f%, ε ${epsilon}`;

// A line's number opens its rows.
(() => {
  const dialog = document.getElementById("rows");
  const most = 1000;
  document.getElementById("results")?.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-cell]");
    if (!link) return;
    event.preventDefault();
    const data = results();
    const [whose, right, fell, before, after, spearman, passes] = data.cells[link.dataset.cell] ?? [[], [], [], [], [], [], []];
    dialog.querySelector("h2").textContent = `${link.dataset.cell}: ${methodText(data.methods[link.dataset.cell])}`;
    dialog.querySelector("p").textContent = `${whose.length} rows` + (whose.length > most ? `, the first ${most} of them shown` : "") + ". All columns are in rows.parquet.";
    const rows = whose.slice(0, most).map((u, i) => words([
      ["th", data.utterances[u][0]], ["td", data.utterances[u][1]], ["td", data.utterances[u][2]],
      ["td", data.classes[before[i]]], ["td", data.classes[after[i]]], outcome(right[i], fell[i]),
      ["td", spearman[i]], ["td", passes[i]],
    ]));
    dialog.querySelector(".scroll").replaceChildren(tableOf(["Utterance", "Speaker", "Emotion", "Heard before", "Heard after", "Outcome", "Spearman", "Passes"], rows));
    dialog.showModal();
  });
})();

// Explorer: find an utterance, see what every attack did to it; pictures and sound where there are.
(() => {
  const picker = document.getElementById("picker");
  if (!picker) return;
  const most = 500;
  const element = (id) => document.getElementById(id);
  const articles = new Map([...document.querySelectorAll(".heard")].map((article) => [article.dataset.utterance, article]));
  const pick = element("pick-utterance");
  let utterances = [];

  const prepare = () => {
    const data = results();
    const known = data.utterances.map(([id, speaker, label, text]) => ({ id, speaker, label, text, right: false, fell: false, at: [] }));
    for (const [cell, [whose, right, fell]] of Object.entries(data.cells)) {
      whose.forEach((u, i) => {
        known[u].at.push([cell, i]);
        if (right[i]) { known[u].right = true; known[u].fell ||= !!fell[i]; }
      });
    }
    const ids = new Set(known.map((one) => one.id));
    const only = [...articles.keys()].filter((id) => !ids.has(id)).map((id) => ({ id, speaker: "", label: "", text: "", right: true, fell: false, at: [] }));
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
    const outcomes = { "1": (one) => one.fell, "0": (one) => one.right && !one.fell, "-1": (one) => !one.right, "2": (one) => articles.has(one.id) };
    const found = utterances.filter((one) =>
      (!find || `${one.id} ${one.speaker} ${one.text}`.toLowerCase().includes(find)) &&
      (!emotion || one.label === emotion) && (!speaker || one.speaker === speaker) &&
      (!result || outcomes[result](one)));
    pick.replaceChildren(...found.slice(0, most).map((one) => new Option(`${articles.has(one.id) ? "♪ " : ""}${one.id}, ${one.label}`, one.id)));
    if (found.some((one) => one.id === wanted)) pick.value = wanted;
    element("found").textContent = `${found.length} of ${utterances.length}` + (found.length > most ? `, the first ${most} listed` : "");
    show();
  };
  const show = () => {
    for (const [id, article] of articles) {
      article.hidden = id !== pick.value;
      if (article.hidden) article.querySelector("audio")?.pause();
    }
    const one = utterances.find((candidate) => candidate.id === pick.value);
    const fate = element("fate");
    fate.hidden = !one?.at.length;
    if (fate.hidden) return;
    const data = results();
    const rows = one.at.map(([cell, i]) => {
      const [, right, fell, before, after, spearman, passes] = data.cells[cell];
      const [method, panel, sparsity, epsilon] = data.methods[cell];
      return words([["th", method], ["td", panel], ["td", `${+(100 * sparsity).toPrecision(3)}\u202f%`], ["td", epsilon], ["td", data.classes[before[i]]], ["td", data.classes[after[i]]], outcome(right[i], fell[i]), ["td", spearman[i]], ["td", passes[i]]]);
    });
    fate.replaceChildren(tableOf(["Attack", "Victim", "Sparsity", "ε", "Heard before", "Heard after", "Outcome", "Spearman", "Passes"], rows));
  };
  element("find").addEventListener("input", rested(offer));
  for (const id of ["of-emotion", "of-speaker", "of-outcome"]) element(id).addEventListener("change", offer);
  pick.addEventListener("change", show);
  picker.addEventListener("submit", (event) => event.preventDefault());

  // Several attacks on one utterance: one at a time.
  for (const article of articles.values()) {
    const attempts = [...article.querySelectorAll(".attempt")];
    const label = article.querySelector(".attempts");
    const choice = label.querySelector("select");
    choice.append(...attempts.map((part) => new Option(part.dataset.method)));
    const turn = () => attempts.forEach((part, i) => { part.hidden = i !== choice.selectedIndex; });
    choice.addEventListener("change", turn);
    label.hidden = attempts.length < 2;
    turn();
  }
  // A page with many rows comes up first and unpacks them then.
  setTimeout(() => { prepare(); picker.hidden = false; offer(); }, 30);
  for (const [i, article] of [...articles.values()].entries()) article.hidden = i > 0;

  // The play head runs over all pictures; a click in one plays from there.
  for (const article of articles.values()) {
    const audio = article.querySelector("audio");
    const time = article.querySelector(".time");
    if (!audio || !time) continue;
    const seconds = Number(time.dataset.seconds);
    const follow = () => {
      for (const head of time.querySelectorAll(".head")) head.style.left = `${100 * audio.currentTime / seconds}%`;
      if (!audio.paused) requestAnimationFrame(follow);
    };
    audio.addEventListener("play", () => { time.classList.add("playing"); follow(); });
    audio.addEventListener("seeked", follow);
    audio.addEventListener("ended", () => time.classList.remove("playing"));
    time.addEventListener("click", (event) => {
      const view = event.target.closest(".view");
      if (!view) return;
      const box = view.getBoundingClientRect();
      audio.currentTime = Math.min(seconds * (event.clientX - box.left) / box.width, audio.duration || 0);
      audio.play();
    });
  }
})();
