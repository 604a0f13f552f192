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

// Filter of the large table: every word must occur in the line.
(() => {
  const box = document.getElementById("filter");
  if (!box) return;
  const rows = [...document.getElementById("results").tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const status = document.getElementById("shown");
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !words.every((word) => texts[i].includes(word));
      shown += !row.hidden;
    });
    status.textContent = `${shown} of ${rows.length} lines`;
  });
  // A link to a line that the filter hides shows it again.
  addEventListener("hashchange", () => {
    if (document.getElementById(location.hash.slice(1))?.hidden) {
      box.value = "";
      box.dispatchEvent(new Event("input"));
      document.getElementById(location.hash.slice(1)).scrollIntoView();
    }
  });
})();

// Explorer: one utterance and one attack at a time; the play head runs over all pictures.
(() => {
  const picker = document.getElementById("picker");
  if (!picker) return;
  const articles = [...document.querySelectorAll(".heard")];
  const utterance = document.getElementById("pick-utterance");
  const attempt = document.getElementById("pick-attempt");
  const showAttempt = () => {
    const attempts = [...articles[utterance.selectedIndex].querySelectorAll(".attempt")];
    attempts.forEach((part, i) => { part.hidden = i !== attempt.selectedIndex; });
  };
  const showUtterance = () => {
    const wanted = attempt.value;
    articles.forEach((article, i) => {
      article.hidden = i !== utterance.selectedIndex;
      if (article.hidden) article.querySelector("audio")?.pause();
    });
    const methods = [...articles[utterance.selectedIndex].querySelectorAll(".attempt")].map((part) => part.dataset.method);
    attempt.replaceChildren(...methods.map((method) => new Option(method, method)));
    if (methods.includes(wanted)) attempt.value = wanted;
    showAttempt();
  };
  utterance.addEventListener("change", showUtterance);
  attempt.addEventListener("change", showAttempt);
  picker.hidden = false;
  showUtterance();
  for (const article of articles) {
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
