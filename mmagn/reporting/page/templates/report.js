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
  const more = document.getElementById("more");
  const step = list ? Number(list.dataset.step) : 0;
  let limit = step;
  const number = (text, otherwise) => (text === "" || Number.isNaN(Number(text)) ? otherwise : Number(text));
  const arrange = () => {
    const asked = new FormData(form);
    const within = (card, key) => {
      const value = Number(card.dataset[key]);
      const ends = [number(asked.get(`${key}-low`), -Infinity), number(asked.get(`${key}-high`), Infinity)];
      return !(value < ends[0]) && !(value > ends[1]); // what is unknown is always inside
    };
    const [key, way] = asked.get("sort").split(":");
    const sign = way === "up" ? 1 : -1;
    const rank = (card) => (Number.isNaN(Number(card.dataset[key])) ? Infinity : sign * Number(card.dataset[key]));
    cards.sort((one, other) => (rank(one) === rank(other) ? 0 : rank(one) - rank(other)));
    list.append(...cards);
    const fits = cards.filter(
      (card) =>
        ["probability", "redshift", "snr"].every((name) => within(card, name)) &&
        (asked.get("outcome") === "" || asked.get("outcome") === card.dataset.outcome) &&
        (asked.get("class") === "" || asked.get("class") === card.dataset.class),
    );
    const shown = new Set(fits.slice(0, limit));
    for (const card of cards) card.hidden = !shown.has(card);
    more.hidden = fits.length <= limit;
    document.getElementById("count").textContent = `${fits.length} of ${cards.length} galaxies`;
  };
  const again = () => {
    limit = step;
    arrange();
  };
  if (form) {
    for (const kind of ["input", "change"]) form.addEventListener(kind, again);
    form.addEventListener("submit", (event) => event.preventDefault());
    document.getElementById("all").addEventListener("click", () => {
      form.reset();
      again();
    });
    more.addEventListener("click", () => {
      limit += step;
      arrange();
    });
    arrange();
  }

  const plane = document.getElementById("plane-figure");
  const tip = document.getElementById("tip");
  if (plane) {
    const open = (card) => {
      if (card.hidden) {
        form.reset();
        limit = cards.length;
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
