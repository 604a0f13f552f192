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

// A narrow window shows the sections as a menu.
(() => {
  const button = document.getElementById("menu");
  const sections = document.getElementById("sections");
  if (!sections.querySelector("a")) return;
  document.documentElement.classList.add("scripted");
  const open = (wanted) => {
    sections.classList.toggle("open", wanted);
    button.setAttribute("aria-expanded", wanted);
  };
  const narrow = matchMedia("(max-width: 40rem)");
  const fit = () => { button.hidden = !narrow.matches; open(false); };
  narrow.addEventListener("change", fit);
  fit();
  button.addEventListener("click", () => open(!sections.classList.contains("open")));
  sections.addEventListener("click", (event) => { if (event.target.closest("a")) open(false); });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !sections.classList.contains("open")) return;
    open(false);
    button.focus();
  });
})();

// Charts: the text of the nearest mark, without the delay of a browser's own tooltip.
(() => {
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true");
  document.body.append(tip);
  const reach = 26;
  let near = null;
  const leave = () => {
    near?.classList.remove("near");
    near = null;
    tip.hidden = true;
  };
  // The text moves from the title, whose own tooltip would appear beside this one.
  const text = (mark) => {
    const title = mark.querySelector("title");
    if (title) {
      mark.dataset.text = title.textContent;
      title.remove();
    }
    return mark.dataset.text;
  };
  const enter = (mark, x, y) => {
    if (mark === near) return;
    leave();
    near = mark;
    mark.classList.add("near");
    tip.textContent = text(mark);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 12, innerWidth - box.width - 4))}px`;
    tip.style.top = `${y - box.height - 12 < 4 ? y + 16 : y - box.height - 12}px`;
  };
  const nearest = (event) => {
    const chart = event.target.closest?.(".plot, .track");
    if (!chart) return null;
    let best = [reach, null];
    for (const mark of chart.querySelectorAll(".plot .mark, .dot")) {
      const box = mark.getBoundingClientRect();
      const far = Math.hypot(event.clientX - box.x - box.width / 2, event.clientY - box.y - box.height / 2);
      if (far < best[0]) best = [far, mark];
    }
    return best[1];
  };
  addEventListener("pointermove", (event) => {
    const mark = nearest(event);
    if (mark) enter(mark, event.clientX, event.clientY);
    else if (near) leave();
  }, { passive: true });
  addEventListener("scroll", leave, { passive: true });
  // A click leads to the row of the mark; a tap shows the text first.
  addEventListener("click", (event) => {
    const mark = nearest(event);
    if (!mark) return;
    const tapped = mark.dataset.tapped;
    for (const other of document.querySelectorAll("[data-tapped]")) delete other.dataset.tapped;
    mark.dataset.tapped = "yes";
    if (matchMedia("(hover: none)").matches && !tapped) enter(mark, event.clientX, event.clientY);
    else if (mark.dataset.href) location.hash = mark.dataset.href;
  });
})();

// Tables: sort by a heading; numbers by value, text alphabetically, missing values last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const key = (row, column) => {
    const cell = row.cells[column];
    const number = cell.querySelector("data")?.getAttribute("value") ?? cell.dataset.sort;
    const text = number ?? cell.textContent.trim();
    return text === "" || text === "–" || text === "none" || text === "None" ? null : isNaN(text) ? text : Number(text);
  };
  table.tHead.addEventListener("click", (event) => {
    const heading = event.target.closest("th");
    if (!heading?.hasAttribute("aria-sort")) return;
    const keyed = [...body.rows].map((row) => [key(row, heading.cellIndex), row]);
    const before = heading.getAttribute("aria-sort");
    // Names ascend at first, and numbers descend.
    const ascending = before === "none" ? keyed.some(([one]) => typeof one === "string") : before === "descending";
    for (const other of table.tHead.rows[0].cells) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const sign = ascending ? 1 : -1;
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
