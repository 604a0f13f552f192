// One sound plays at a time. Its position is drawn in all pictures of the utterance. A click in a
// picture plays the sound of this picture, or else the last one, from there.
(() => {
  for (const article of document.querySelectorAll(".exemplar")) {
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
