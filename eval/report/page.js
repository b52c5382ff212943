"use strict";
(() => {
  const browser = document.getElementById("browser");
  if (!browser) return;
  const query = document.getElementById("query");
  const outcome = document.getElementById("outcome");
  const count = document.getElementById("count");
  const nothing = document.getElementById("nothing");
  const samples = [...browser.querySelectorAll(".sample")].map((element) => ({
    element,
    outcome: element.dataset.outcome,
    text: element.textContent.toLowerCase().replace(/\s+/g, " "),
  }));

  function filter() {
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const sample of samples) {
      const fits =
        (!outcome.value || sample.outcome === outcome.value) && words.every((word) => sample.text.includes(word));
      sample.element.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    count.textContent = `${shown} of ${samples.length}`;
    nothing.hidden = shown > 0;
  }

  query.addEventListener("input", filter);
  outcome.addEventListener("change", filter);
  query.form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      query.focus();
    } else if (event.key === "Escape" && document.activeElement === query) {
      query.value = "";
      filter();
    }
  });
  filter(); // a browser may restore what was typed before a reload
})();
