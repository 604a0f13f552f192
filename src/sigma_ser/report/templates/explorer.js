// Explorer: any attacked utterance under any attack on it, with pictures and sounds if the page
// contains them. The address names both, so that a view can be linked to.
(() => {
  const picker = document.getElementById("picker");
  if (!picker) return;
  const most = 500;
  const element = (id) => document.getElementById(id);
  const articles = new Map([...document.querySelectorAll(".exemplar")].map((article) => [article.dataset.utterance, article]));
  const pick = element("pick-utterance");
  const silence = (part) => { for (const audio of part.querySelectorAll("audio")) audio.pause(); };
  let utterances = [];
  let listed = [];  // ids that the filters leave
  let cell = "";    // the attack whose outcome is shown

  const prepare = () => {
    const data = results();
    const known = data.utterances.map(([id, speaker, label, text]) => ({ id, speaker, label, text, at: new Map() }));
    for (const [name, [whose]] of Object.entries(data.cells)) {
      whose.forEach((u, i) => { if (!known[u].at.has(name)) known[u].at.set(name, i); });
    }
    const ids = new Set(known.map((one) => one.id));
    const only = [...articles.keys()].filter((id) => !ids.has(id)).map((id) => ({ id, speaker: "", label: "", text: "", at: new Map() }));
    utterances = [...only, ...known].sort((a, b) => articles.has(b.id) - articles.has(a.id));
    const fill = (id, values) => element(id).append(...values.map((value) => new Option(value, value)));
    const names = (key) => [...new Set(utterances.map((one) => one[key]).filter(Boolean))].sort();
    fill("of-emotion", names("label"));
    fill("of-speaker", names("speaker"));
    fill("of-victim", [...new Set(Object.values(data.methods).map((parts) => parts[1]))]);
    fill("of-prediction", data.classes);
    offerAttacks();
  };
  const offerAttacks = () => {
    const wanted = element("of-victim").value;
    const choice = element("of-attack");
    const before = choice.value;
    const found = Object.entries(results().methods).filter(([, parts]) => !wanted || parts[1] === wanted);
    choice.replaceChildren(new Option("all", ""), ...found.map(([name, parts]) => new Option(methodText(wanted ? [parts[0], ...parts.slice(2)] : parts), name)));
    if (found.some(([name]) => name === before)) choice.value = before;
  };

  // Rows of an utterance that the chosen model and attack leave.
  const chosen = (one) => {
    const [victim, attack] = [element("of-victim").value, element("of-attack").value];
    const methods = results().methods;
    return [...one.at].filter(([name]) => (!attack || name === attack) && (!victim || methods[name][1] === victim));
  };
  const matches = (one) => {
    const data = results();
    const find = element("find").value.toLowerCase();
    const [emotion, speaker, result, prediction] = ["of-emotion", "of-speaker", "of-outcome", "of-prediction"].map((id) => element(id).value);
    if (find && !`${one.id} ${one.speaker} ${one.text}`.toLowerCase().includes(find)) return false;
    if (emotion && one.label !== emotion || speaker && one.speaker !== speaker) return false;
    if (result === "2") return articles.has(one.id);
    const rows = chosen(one);
    if (!rows.length) return !one.at.size && !result && !prediction;
    const correct = rows.filter(([name, i]) => data.cells[name][1][i]);
    const success = correct.filter(([name, i]) => data.cells[name][2][i]);
    if (result === "1" && !success.length || result === "0" && (success.length || !correct.length) || result === "-1" && correct.length) return false;
    return !prediction || rows.some(([name, i]) => data.classes[data.cells[name][4][i]] === prediction);
  };
  const offer = () => {
    const wanted = pick.value;
    const found = utterances.filter(matches);
    listed = found.map((one) => one.id);
    list(listed.includes(wanted) ? wanted : listed[0]);
    element("found").textContent = `${found.length} of ${utterances.length}` + (found.length > most ? `; the list shows ${most} of them at a time` : "");
    show();
  };
  // A window of the list around the chosen utterance, which keeps long lists fast.
  const list = (id) => {
    const place = Math.max(0, listed.indexOf(id));
    const start = Math.max(0, Math.min(place - most / 2, listed.length - most));
    const known = new Map(utterances.map((one) => [one.id, one]));
    pick.replaceChildren(...listed.slice(start, start + most).map((name) => new Option(`${articles.has(name) ? "♪ " : ""}${name}, ${known.get(name).label}`, name)));
    if (listed.length) pick.value = listed[place];
  };
  const step = (by) => {
    const place = listed.indexOf(pick.value) + by;
    if (place < 0 || place >= listed.length) return;
    list(listed[place]);
    show();
    remember();
  };
  const remember = () => {
    try {
      history.replaceState(null, "", `#utterance=${encodeURIComponent(pick.value)}${cell ? `&cell=${cell}` : ""}`);
    } catch { /* a page opened from disk may have no history */ }
  };
  const recall = () => {
    const asked = new URLSearchParams(location.hash.slice(1));
    const id = asked.get("utterance");
    if (!utterances.some((one) => one.id === id)) return false;
    for (const filter of picker.querySelectorAll("input, select:not(#pick-utterance)")) filter.value = "";
    offerAttacks();
    cell = asked.get("cell") ?? "";
    listed = utterances.map((one) => one.id);
    list(id);
    offer();
    element("utterances").scrollIntoView();
    return true;
  };

  const show = () => {
    const one = utterances.find((candidate) => candidate.id === pick.value);
    const place = listed.indexOf(pick.value);
    element("previous").disabled = place <= 0;
    element("next").disabled = place < 0 || place >= listed.length - 1;
    for (const [id, article] of articles) {
      article.hidden = id !== pick.value;
      if (article.hidden) silence(article);
    }
    const article = articles.get(pick.value);
    const rows = one ? chosen(one) : [];
    if (!rows.some(([name]) => name === cell)) {
      const drawn = article && rows.find(([name]) => article.querySelector(`[data-cell="${name}"]`));
      cell = (drawn ?? rows[0] ?? [""])[0];
    }
    if (article) turn(article, cell);
    describe(one, article);
    outcomes(one);
  };
  const count = (number) => number.toLocaleString("en").replaceAll(",", "\u202f");
  const describe = (one, article) => {
    const panel = element("outcome");
    panel.hidden = !one?.at.has(cell);
    if (panel.hidden) return;
    const data = results();
    const [, correct, success, before, after, spearman, passes, sure, surer, changed, frames] = data.cells[cell].map((column) => Array.isArray(column) ? column[one.at.get(cell)] : column);
    const [method, victim, ...budget] = data.methods[cell];
    const strong = (text) => Object.assign(document.createElement("strong"), { textContent: text });
    const [was, is] = [data.classes[before], data.classes[after]];
    const confidence = (value) => value === null ? "" : ` (probability ${value}\u202f%)`;
    const head = document.createElement("h3");
    head.textContent = `${one.id}: ${methodText([method, victim, ...budget])}`;
    const verdict = document.createElement("p");
    verdict.append(strong(victim), ` predicts ${was}${confidence(sure)} before the attack and `, strong(is), `${confidence(surer)} after it. The true emotion is ${one.label}, so ${!correct ? "the utterance was misclassified before" : success ? "the attack succeeds" : "the attack fails"}.`);
    const details = [
      changed === null ? "" : `It changes ${count(changed)} ${frames === null ? "samples" : `values in ${count(frames)} frames`}.`,
      passes === null ? "" : `It takes ${passes} passes.`,
      spearman === null ? "" : `The rank correlation of the explanations before and after is ${spearman}.`,
    ].filter(Boolean).join(" ");
    const more = Object.assign(document.createElement("p"), { className: "note", textContent: details });
    panel.replaceChildren(head, verdict, ...details ? [more] : []);
    const picture = drawing(one, cell);
    if (picture) panel.append(picture);
    else if (article?.querySelector(`[data-cell="${cell}"]`)) panel.append(Object.assign(document.createElement("p"), { className: "note", textContent: "Sounds and explanations of this attack follow." }));
  };
  // Where an attack changed an utterance, from the places that the page holds: gaps between the
  // flat places, 7 bits in a byte, the high bit on all bytes of a gap but the last.
  const drawing = (one, name) => {
    const { of, channels } = results().changes?.[name] ?? {};
    const packed = of?.[one.id];
    if (!packed) return null;
    const [frames, text] = packed;
    const rows = Math.min(channels, 128);
    const counts = new Float32Array(rows * frames);
    let [place, gap, shift, most] = [-1, 0, 0, 0];
    for (const letter of atob(text)) {
      const byte = letter.charCodeAt(0);
      gap += (byte & 127) * 2 ** shift;
      shift += 7;
      if (byte & 128) continue;
      place += gap + 1;
      [gap, shift] = [0, 0];
      const at = Math.floor((place % channels) * rows / channels) * frames + Math.floor(place / channels);
      most = Math.max(most, ++counts[at]);
    }
    const canvas = Object.assign(document.createElement("canvas"), { width: frames, height: rows });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Changed values of ${one.id}: ${frames} frames to the right, ${channels} channels downwards`);
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(frames, rows);
    counts.forEach((count, i) => pixels.data.set([222, 96, 32, count ? 95 + 160 * count / most : 0], 4 * i));
    context.putImageData(pixels, 0, 0);
    const figure = document.createElement("figure");
    figure.className = "changes";
    figure.append(canvas, Object.assign(document.createElement("figcaption"), { textContent: `Changed values: ${frames} frames to the right, ${channels} channels downwards in the order of the encoder.` }));
    return figure;
  };
  const outcomes = (one) => {
    const table = element("outcomes");
    table.hidden = !one?.at.size;
    if (table.hidden) return;
    const data = results();
    const rows = [...one.at].map(([name, i]) => {
      const [, correct, success, before, after, spearman, passes] = data.cells[name];
      const [method, ...parts] = data.methods[name];
      const [victim, ...budget] = parts.map((part) => ["td", part]);
      const row = words([["th", ""], outcome(correct[i], success[i]), victim, ["td", data.classes[before[i]]], ["td", data.classes[after[i]]], ...budget, ["td", spearman[i]], ["td", passes[i]]]);
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: method });
      button.dataset.cell = name;
      if (name === cell) row.setAttribute("aria-current", "true");
      row.cells[0].append(button);
      return row;
    });
    table.replaceChildren(tableOf(["Attack", "Outcome", "Victim", "Predicted before", "Predicted after", "Sparsity", "Bound", "Spearman", "Passes"], rows));
  };
  const change = (name) => {
    cell = name;
    // The chosen attack may be one that the filters leave out.
    for (const id of ["of-attack", "of-victim"]) element(id).value = "";
    offerAttacks();
    offer();
    remember();
  };
  const turn = (article, name) => {
    const attempts = [...article.querySelectorAll(".attempt")];
    const found = name ? attempts.findIndex((part) => part.dataset.cell === name) : -1;
    const choice = article.querySelector(".attempts select");
    if (found >= 0) choice.selectedIndex = found;
    attempts.forEach((part, i) => {
      part.hidden = i !== choice.selectedIndex;
      if (part.hidden) silence(part);
    });
  };

  element("find").addEventListener("input", debounced(offer));
  element("of-victim").addEventListener("change", () => { offerAttacks(); offer(); remember(); });
  element("of-attack").addEventListener("change", (event) => { cell = event.target.value; offer(); remember(); });
  for (const id of ["of-emotion", "of-speaker", "of-outcome", "of-prediction"]) element(id).addEventListener("change", () => { offer(); remember(); });
  pick.addEventListener("change", () => { show(); remember(); });
  element("previous").addEventListener("click", () => step(-1));
  element("next").addEventListener("click", () => step(1));
  picker.addEventListener("submit", (event) => event.preventDefault());
  element("outcomes").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) change(button.dataset.cell);
  });
  // Arrow keys, while the section is in view and no field or player needs them.
  addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || event.target.closest?.("input, select, audio, textarea, dialog, .scroll")) return;
    const box = element("utterances").getBoundingClientRect();
    if (box.bottom < 0 || box.top > innerHeight || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    event.preventDefault();
    step(event.key === "ArrowLeft" ? -1 : 1);
  });
  addEventListener("hashchange", recall);

  for (const article of articles.values()) {
    const attempts = [...article.querySelectorAll(".attempt")];
    const label = article.querySelector(".attempts");
    const choice = label.querySelector("select");
    choice.append(...attempts.map((part) => new Option(part.dataset.method)));
    choice.addEventListener("change", () => {
      const name = attempts[choice.selectedIndex].dataset.cell;
      if (name && utterances.find((one) => one.id === article.dataset.utterance)?.at.has(name)) change(name);
      else turn(article, "");
    });
    label.hidden = attempts.length < 2;
    turn(article, "");
  }
  // Unpacking is delayed, so that a page with many rows is displayed first.
  setTimeout(() => {
    prepare();
    picker.hidden = false;
    if (!recall()) offer();
  }, 30);
  for (const [i, article] of [...articles.values()].entries()) article.hidden = i > 0;
})();
