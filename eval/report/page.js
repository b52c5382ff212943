"use strict";
(() => {
  // Maps: show the text of the dot nearest to the pointer, the finger or the arrow next to the map.
  const NEAR = 24; // pixels
  for (const map of document.querySelectorAll(".map")) {
    const cloud = map.querySelector(".cloud");
    const card = map.querySelector(".map-text");
    const query = map.querySelector(".map-query");
    const count = map.querySelector(".map-count");
    const buttons = [...map.querySelectorAll("[data-series]")];
    const spots = [...cloud.querySelectorAll(".spot")].map((element) => {
      const title = element.querySelector("title");
      const [topic, ...lines] = title.textContent.split("\n");
      title.remove(); // otherwise the browser shows its own tooltip over the dot
      const [x, y] = ["cx", "cy"].map((name) => parseFloat(element.getAttribute(name)));
      return { element, topic, text: lines.join("\n"), series: element.classList[1], x, y, shown: true };
    });
    let current = null;

    function show(spot) {
      if (!spot || spot === current) return;
      if (current) current.element.classList.remove("current");
      current = spot;
      spot.element.classList.add("current");
      cloud.insertBefore(spot.element, cloud.querySelector(".spot-label")); // on top of the other dots
      const topic = document.createElement("small");
      topic.textContent = spot.topic;
      const text = document.createElement("p");
      text.textContent = spot.text;
      card.replaceChildren(topic, text);
    }

    function nearest(x, y, fits) {
      let best = null;
      let least = Infinity;
      for (const spot of spots) {
        if (!spot.shown || spot === current || !fits(spot)) continue;
        const distance = Math.hypot(spot.x - x, spot.y - y);
        if (distance < least) [best, least] = [spot, distance];
      }
      return [best, least];
    }

    function point(event) {
      const box = cloud.getBoundingClientRect();
      const x = (100 * (event.clientX - box.left)) / box.width;
      const y = (100 * (event.clientY - box.top)) / box.height;
      const [spot, distance] = nearest(x, y, () => true);
      const here = current && current.shown ? Math.hypot(current.x - x, current.y - y) : Infinity;
      if (spot && distance < here && (distance * box.width) / 100 < NEAR) show(spot);
    }

    function filter() {
      const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
      const only = buttons.find((button) => button.ariaPressed === "true");
      let found = 0;
      for (const spot of spots) {
        const text = `${spot.topic} ${spot.text}`.toLowerCase();
        spot.shown = (!only || spot.series === only.dataset.series) && words.every((word) => text.includes(word));
        spot.element.classList.toggle("dim", !spot.shown);
        found += spot.shown ? 1 : 0;
      }
      count.textContent = found < spots.length ? `${found} of ${spots.length}` : "";
    }

    cloud.addEventListener("pointermove", point);
    cloud.addEventListener("pointerdown", point);
    cloud.addEventListener("keydown", (event) => {
      const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] || [0, 0];
      if (!dx && !dy) return;
      event.preventDefault();
      if (!current) return show(nearest(50, 50, () => true)[0]);
      const ahead = (spot) => {
        const [x, y] = [spot.x - current.x, spot.y - current.y];
        return dx * x + dy * y > Math.abs(dy * x + dx * y); // within 45 degrees of the arrow
      };
      show(nearest(current.x, current.y, ahead)[0]);
    });
    query.addEventListener("input", filter);
    for (const button of buttons) {
      button.addEventListener("click", () => {
        const pressed = button.ariaPressed === "true";
        for (const each of buttons) each.ariaPressed = "false";
        button.ariaPressed = String(!pressed);
        filter();
      });
    }
    filter(); // browsers may restore the typed text after a reload
  }
})();
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
    // formulas can also be found by their source
    text: [element.textContent, ...[...element.querySelectorAll("math")].map((math) => math.getAttribute("alttext"))]
      .join(" ")
      .toLowerCase()
      .replace(/\s+/g, " "),
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
  filter(); // browsers may restore the typed text after a reload
})();
