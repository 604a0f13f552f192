// The search has a name, and whatever scrolls is reached by the Tab key, also where the theme sees no mouse.
document.querySelector(".md-search")?.setAttribute("aria-label", "Search");

const reachable = () => {
  for (const part of document.querySelectorAll(".md-typeset pre > code, .md-typeset__scrollwrap")) {
    if (!part.hasAttribute("tabindex")) part.tabIndex = 0;
  }
};
// The theme wraps tables and removes the attribute from code after it has measured them.
new MutationObserver(reachable).observe(document.querySelector(".md-content"), {
  subtree: true,
  childList: true,
  attributeFilter: ["tabindex"],
});
reachable();
