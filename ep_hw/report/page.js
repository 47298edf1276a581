"use strict";
// Values on hover, switches, tables that sort and filter, galleries, contents. The page says all of it without, too.
(() => {
  const all = (query, root = document) => [...root.querySelectorAll(query)];
  const tip = document.getElementById("tip");

  // A value in words, where the pointer or the keyboard is.
  const show = mark => {
    all(".at").forEach(one => one.classList.remove("at"));
    tip.textContent = mark ? mark.dataset.tip : "";
    if (!mark) return;
    mark.classList.add("at");
    const place = mark.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const left = place.x + place.width / 2 - own.width / 2;
    tip.style.left = `${Math.max(4, Math.min(left, innerWidth - own.width - 4))}px`;
    tip.style.top = `${place.y > own.height + 12 ? place.y - own.height - 8 : place.bottom + 8}px`;
  };
  document.addEventListener("pointerover", event => show(event.target.closest("[data-tip]")));
  document.addEventListener("scroll", () => show(null), {passive: true, capture: true});
  document.addEventListener("focusout", () => show(null));
  all(".chart").forEach(chart => chart.addEventListener("keydown", event => {
    const marks = all("[data-tip]", chart).filter(mark => mark.getClientRects().length);
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    const now = marks.findIndex(mark => mark.classList.contains("at"));
    if (event.key === "Enter" && now >= 0) open(marks[now].dataset.images);
    if (event.key === "Escape") show(null);
    if (!step || !marks.length) return;
    event.preventDefault();
    show(marks[(now < 0 ? (step > 0 ? 0 : marks.length - 1) : now + step + marks.length) % marks.length]);
  }));

  // Machines and threats on and off, everywhere at once.
  const hidden = document.head.appendChild(document.createElement("style"));
  const switches = all(".switches input");
  const redraw = () => {
    const off = switches.filter(one => !one.checked).map(one => `[data-${one.name}="${one.value}"]`);
    hidden.textContent = off.length ? `${off.join(", ")} { display: none !important; }` : "";
  };
  switches.forEach(one => one.addEventListener("change", redraw));

  // Tables.
  const value = cell => {
    const text = (cell.dataset.value ?? cell.textContent).trim().replace("\u2212", "-");
    const number = parseFloat(text);
    return Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => {
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return typeof a === "number" ? a - b : a.localeCompare(b);
  };
  const sort = (table, head) => {
    const rising = head.getAttribute("aria-sort") !== "ascending";
    all("thead th", table).forEach(one => one.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const body = table.tBodies[0], column = head.cellIndex;
    const rows = [...body.rows].sort((a, b) => compare(value(a.cells[column]), value(b.cells[column])));
    body.append(...(rising ? rows : rows.reverse()));
  };
  const filter = (table, words) => [...table.tBodies[0].rows].forEach(row => {
    row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
  });
  all("table.sortable").forEach(table => {
    all("thead th", table).filter(head => head.textContent.trim()).forEach(head => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, head));
      head.append(button);
    });
    if (table.tBodies[0].rows.length < 8) return;
    const box = Object.assign(document.createElement("input"), {type: "search", className: "filter"});
    box.placeholder = "show rows with \u2026";
    box.setAttribute("aria-label", `Rows of ${table.parentElement.getAttribute("aria-label") || "the table"} with`);
    box.addEventListener("input", () => filter(table, box.value.toLowerCase().split(/\s+/)));
    table.parentElement.before(box);
  });

  // The images behind a number.
  const viewer = document.getElementById("viewer");
  const open = id => {
    const gallery = id && document.getElementById(id);
    if (!gallery || !viewer) return;
    const copy = gallery.cloneNode(true);
    copy.removeAttribute("id");
    viewer.lastElementChild.replaceChildren(copy);
    viewer.showModal();
  };
  document.addEventListener("click", event => {
    const link = event.target.closest("a[href^='#images-'], [data-images]");
    if (!link) return;
    event.preventDefault();
    open(link.dataset.images || link.hash.slice(1));
  });

  // Contents: a section that is asked for opens, and the one in sight is marked.
  const unfold = () => {
    const wanted = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let one = wanted; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
    if (wanted) wanted.scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  all(".contents a").forEach(link => link.addEventListener("click", () => setTimeout(unfold)));
  unfold();
  const seen = new IntersectionObserver(entries => entries.filter(one => one.isIntersecting).forEach(one =>
    all(".contents a").forEach(link => link.hash === `#${one.target.id}` ? link.setAttribute("aria-current", "true")
      : link.removeAttribute("aria-current"))), {rootMargin: "0px 0px -70% 0px"});
  all("main > [id]").forEach(one => seen.observe(one));

  // The sentence for a paper, to paste.
  all("[data-copies]").forEach(button => button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copies).textContent.trim());
    button.textContent = "copied";
  }));
})();
