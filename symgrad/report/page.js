"use strict";
// Formulas, lines of code and nodes of the graph light up together, and LaTeX is copied. Nothing else.
(() => {
  const lit = "lit";
  const keys = (element, kind) => (element.dataset[kind] || "").split(" ").filter(Boolean);
  const shares = (element, kind, wanted) => keys(element, kind).some((key) => wanted.has(key));

  const clear = () => document.querySelectorAll("." + lit).forEach((e) => e.classList.remove(lit));

  // A node lights all that belongs to it; a formula or a line lights its formula, code and node.
  const light = (from) => {
    clear();
    const isNode = from.classList.contains("node");
    const nodes = new Set(isNode ? keys(from, "of") : keys(from, "n"));
    const formulas = new Set(keys(from, "f"));
    document.querySelectorAll("[data-f], [data-n]").forEach((e) => {
      const same = formulas.size ? shares(e, "f", formulas) : shares(e, "n", nodes);
      if (same) e.classList.add(lit);
    });
    document.querySelectorAll(".node").forEach((e) => {
      if (shares(e, "of", nodes)) e.classList.add(lit);
    });
    from.classList.add(lit);
  };

  const linked = (element) => element && element.closest(".node, [data-f], [data-n]");
  const follow = () => {
    const target = linked(document.getElementById(decodeURIComponent(location.hash.slice(1))));
    if (target) light(target);
  };
  window.addEventListener("hashchange", follow);
  follow();

  document.addEventListener("click", (event) => {
    if (event.target.closest("button, summary, .code a, .refs a, .to-node")) return;
    const target = linked(event.target);
    if (target) light(target);
    else clear();
  });

  const copied = (button) => {
    const label = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1200);
  };
  document.querySelectorAll("button.copy").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.dataset.latex);
      copied(button);
    });
  });
})();
