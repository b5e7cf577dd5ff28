"use strict";
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const isDark = () =>
    (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const nameTheme = () => {
    theme.textContent = isDark() ? "Light" : "Dark";
    theme.setAttribute("aria-pressed", String(isDark()));
    theme.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`);
  };
  theme.hidden = false;
  nameTheme();
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    nameTheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);

  const markScrolling = () => {
    for (const box of document.querySelectorAll(".scroll")) {
      const hint = box.nextElementSibling;
      const cut = box.scrollWidth > box.clientWidth + 1;
      box.classList.toggle("cut", cut);
      if (hint && hint.classList.contains("more-right")) hint.hidden = !cut;
    }
  };
  markScrolling();
  addEventListener("resize", markScrolling);
  for (const details of document.querySelectorAll("details")) details.addEventListener("toggle", markScrolling);

  const copyText = async (pre) => {
    try {
      await navigator.clipboard.writeText(pre.textContent);
    } catch {
      getSelection().selectAllChildren(pre);
      document.execCommand("copy");
      getSelection().removeAllRanges();
    }
  };
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      await copyText(button.nextElementSibling);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
  }

  const form = document.getElementById("filters");
  const list = document.getElementById("cards");
  const cards = list ? [...list.querySelectorAll(".card")] : [];
  const more = document.getElementById("more");
  const step = list ? Number(list.dataset.step) : 0;
  let limit = step;
  let matching = cards;
  const number = (text, otherwise) => (text === "" || Number.isNaN(Number(text)) ? otherwise : Number(text));
  const arrange = () => {
    const filters = new FormData(form);
    const within = (card, key) => {
      const value = Number(card.dataset[key]);
      const ends = [number(filters.get(`${key}-low`), -Infinity), number(filters.get(`${key}-high`), Infinity)];
      return !(value < ends[0]) && !(value > ends[1]); // an undefined value is always inside
    };
    const [key, direction] = filters.get("sort").split(":");
    const sign = direction === "up" ? 1 : -1;
    const rank = (card) => (Number.isNaN(Number(card.dataset[key])) ? Infinity : sign * Number(card.dataset[key]));
    cards.sort((one, other) => (rank(one) === rank(other) ? 0 : rank(one) - rank(other)));
    list.append(...cards);
    matching = cards.filter(
      (card) =>
        ["probability", "redshift", "snr"].every((name) => within(card, name)) &&
        ["outcome", "class"].every((name) => filters.get(name) === "" || filters.get(name) === card.dataset[name]),
    );
    const visible = new Set(matching.slice(0, limit));
    for (const card of cards) card.hidden = !visible.has(card);
    more.hidden = matching.length <= limit;
    document.getElementById("count").textContent = `${matching.length} of ${cards.length} galaxies`;
  };
  const restart = () => {
    limit = step;
    arrange();
  };

  const columns = [
    ["object_id", "id", "char", ""],
    ["ra", "ra", "double", "deg"],
    ["dec", "dec", "double", "deg"],
    ["redshift", "redshift", "double", ""],
    ["bpt_class", "class", "char", ""],
    ["truth", "truth", "int", ""],
    ["p_agn", "probability", "double", ""],
    ["soft_label", "soft", "double", ""],
    ["weakest_snr", "snr", "double", ""],
    ["outcome", "outcome", "char", ""],
  ];
  const rows = () => matching.map((card) => columns.map(([, key]) => card.dataset[key]));
  const csv = () => {
    const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    return [columns.map(([name]) => name), ...rows()].map((row) => row.map(quoted).join(",") + "\n").join("");
  };
  const votable = () => {
    const space = "http://www.ivoa.net/xml/VOTable/v1.3";
    const file = document.implementation.createDocument(space, "VOTABLE");
    const add = (parent, name, attributes = {}, text = "") => {
      const element = file.createElementNS(space, name);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      element.textContent = text;
      return parent.appendChild(element);
    };
    file.documentElement.setAttribute("version", "1.4");
    const table = add(add(file.documentElement, "RESOURCE"), "TABLE", { name: "galaxies" });
    add(table, "DESCRIPTION", {}, `Galaxies of ${list.dataset.run}, P(AGN) calibrated`);
    for (const [name, , datatype, unit] of columns) {
      add(table, "FIELD", {
        name,
        datatype,
        ...(datatype === "char" ? { arraysize: "*" } : {}),
        ...(unit ? { unit } : {}),
      });
    }
    const data = add(add(table, "DATA"), "TABLEDATA");
    for (const row of rows()) {
      const line = add(data, "TR");
      for (const cell of row) add(line, "TD", {}, cell);
    }
    return `<?xml version="1.0" encoding="utf-8"?>\n${new XMLSerializer().serializeToString(file)}\n`;
  };
  const save = (text, kind, ending) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: kind }));
    link.download = `${list.dataset.run.replace(/[^\w.-]+/g, "-")}-galaxies.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  if (form) {
    for (const kind of ["input", "change"]) form.addEventListener(kind, restart);
    form.addEventListener("submit", (event) => event.preventDefault());
    document.getElementById("all").addEventListener("click", () => {
      form.reset();
      restart();
    });
    document.getElementById("csv").addEventListener("click", () => save(csv(), "text/csv", "csv"));
    document
      .getElementById("votable")
      .addEventListener("click", () => save(votable(), "application/x-votable+xml", "vot"));
    more.addEventListener("click", () => {
      limit += step;
      arrange();
    });
    arrange();
  }

  const plane = document.getElementById("figure-bpt_probability");
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
      const number = event.target.dataset && event.target.dataset.card;
      const card = number && document.getElementById(`card-${number}`);
      if (card) open(card);
    });
  }
})();
