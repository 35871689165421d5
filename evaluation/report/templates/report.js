"use strict";
// What a point of a figure says is its <title>. The browser shows it after a second; here it is shown at once, and on touch.
(function () {
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  document.body.appendChild(tip);
  for (const title of document.querySelectorAll(".plot title")) {
    title.parentNode.dataset.tip = title.textContent;
    title.remove();
  }

  function show(event) {
    const mark = event.target.closest ? event.target.closest("[data-tip]") : null;
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.dataset.tip;
    const box = tip.getBoundingClientRect();
    const left = Math.min(Math.max(event.clientX - box.width / 2, 8), document.documentElement.clientWidth - box.width - 8);
    const above = event.clientY - box.height - 14;
    tip.style.left = left + "px";
    tip.style.top = (above > 4 ? above : event.clientY + 18) + "px";
  }
  document.addEventListener("pointerover", show);
  document.addEventListener("pointerdown", show);
  document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true, capture: true });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });

  const closed = [];
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details:not([open])").forEach((part) => { closed.push(part); part.open = true; });
  });
  addEventListener("afterprint", () => {
    closed.splice(0).forEach((part) => { part.open = false; });
  });
})();
