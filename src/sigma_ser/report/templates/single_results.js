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
