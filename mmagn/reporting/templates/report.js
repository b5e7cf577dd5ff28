"use strict";
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const isDark = () =>
    (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const name = () => {
    theme.textContent = isDark() ? "Light" : "Dark";
    theme.setAttribute("aria-pressed", String(isDark()));
    theme.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`);
  };
  theme.hidden = false;
  name();
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    name();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);

  const form = document.getElementById("filters");
  const list = document.getElementById("cards");
  const cards = list ? [...list.querySelectorAll(".card")] : [];
  const number = (text, otherwise) => (text === "" || Number.isNaN(Number(text)) ? otherwise : Number(text));
  const arrange = () => {
    const asked = new FormData(form);
    const within = (card, key) => {
      const value = Number(card.dataset[key]);
      return value >= number(asked.get(`${key}-low`), -Infinity) && value <= number(asked.get(`${key}-high`), Infinity);
    };
    let shown = 0;
    for (const card of cards) {
      const fits =
        ["probability", "redshift", "snr"].every((key) => within(card, key)) &&
        (asked.get("outcome") === "" || asked.get("outcome") === card.dataset.outcome) &&
        (asked.get("class") === "" || asked.get("class") === card.dataset.class);
      card.hidden = !fits;
      shown += fits;
    }
    const [key, way] = asked.get("sort").split(":");
    const sign = way === "up" ? 1 : -1;
    cards.sort((one, other) => sign * (Number(one.dataset[key]) - Number(other.dataset[key])));
    list.append(...cards);
    document.getElementById("count").textContent = `${shown} of ${cards.length} galaxies`;
  };
  if (form) {
    form.addEventListener("input", arrange);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(arrange));
  }

  const plane = document.getElementById("plane-figure");
  const tip = document.getElementById("tip");
  if (plane) {
    const open = (card) => {
      if (card.hidden) {
        form.reset();
        arrange();
      }
      for (const other of cards) other.classList.toggle("chosen", other === card);
      card.scrollIntoView({ block: "center" });
      card.focus({ preventScroll: true });
    };
    plane.addEventListener("pointerover", (event) => {
      const words = event.target.dataset && event.target.dataset.tip;
      tip.hidden = !words;
      if (!words) return;
      tip.textContent = words;
      const across = Math.min(event.clientX + 14, root.clientWidth - tip.offsetWidth - 8);
      tip.style.left = `${Math.max(across, 8)}px`;
      tip.style.top = `${Math.max(event.clientY - tip.offsetHeight - 12, 8)}px`;
    });
    plane.addEventListener("pointerleave", () => (tip.hidden = true));
    plane.addEventListener("click", (event) => {
      const asked = event.target.dataset && event.target.dataset.card;
      const card = asked && document.getElementById(`card-${asked}`);
      if (card) open(card);
    });
  }
})();
