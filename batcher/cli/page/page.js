// The table of flows: sorted, filtered, and only its visible rows in the document. Everything else is in the page already.
(() => {
  'use strict';
  const D = JSON.parse(document.getElementById('data').textContent);
  const N = D.name.length;
  const OVERSCAN = 8, PRINTED = 1000;
  const $ = (id) => document.getElementById(id);
  const make = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };

  // Numbers and times, in no language's own way.
  const count = (n) => String(Math.round(n)).replace(/\B(?=(\d{3})+$)/g, '\u202f');
  const bytes = (n) => {
    for (const unit of ['B', 'kB', 'MB', 'GB']) {
      if (n < 1000) return unit === 'B' ? `${n} B` : `${n.toFixed(1)} ${unit}`;
      n /= 1000;
    }
    return `${n.toFixed(1)} TB`;
  };
  const two = (n) => String(n).padStart(2, '0');
  const span = (s) => {
    if (s < 59.95) return `${s.toFixed(1)} s`;
    s = Math.round(s);
    if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} min`;
    return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
  };
  const local = (date) => `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
    `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  const zone = (date) => {
    const minutes = -date.getTimezoneOffset(), size = Math.abs(minutes);
    return minutes ? `UTC${minutes < 0 ? '−' : '+'}${two(Math.floor(size / 60))}:${two(size % 60)}` : 'UTC';
  };
  const moment = (at, zoned) => {
    const date = new Date(at * 1000), iso = date.toISOString().replace('.000', '');
    return make('time', { datetime: iso, title: iso }, local(date) + (zoned ? ` ${zone(date)}` : ''));
  };
  for (const time of document.querySelectorAll('time')) {
    const date = new Date(time.getAttribute('datetime'));
    time.textContent = `${local(date)} ${zone(date)}`;
  }

  const times = (n) => D.times[n] || [];
  const took = (n) => { const t = times(n); return t[0] != null && t[5] != null ? Math.max(0, t[5] - t[0]) : -1; };
  const pictured = Object.keys(D.pictures).length > 0;
  const collected = D.outputs.some(Boolean);
  const SIZES = ['smallest first', 'largest first'];
  const COLUMNS = [
    { title: 'Flow', mark: 'name', key: (n) => D.rank[n], ways: ['A to Z', 'Z to A'] },
    { title: 'State', mark: 'state', key: (n) => D.status[n], ways: ['problems first', 'done first'] },
    { title: 'Inputs', mark: 'inputs', key: (n) => D.inputs[n], number: true },
    ...(collected ? [{ title: 'Outputs', mark: 'outputs', key: (n) => D.outputs[n] ? D.outputs[n][0] : -1, number: true }] : []),
    { title: 'Size', mark: 'size', key: (n) => D.size[n], number: true },
    { title: 'Took', mark: 'took', key: took, number: true, ways: ['shortest first', 'longest first'] },
    { title: 'Started', mark: 'started', key: (n) => times(n)[5] ?? -1, number: true, ways: ['earliest first', 'latest first'] },
  ];
  for (const column of COLUMNS) {
    column.keys = new Float64Array(N);
    for (let n = 0; n < N; n++) column.keys[n] = column.key(n);
  }
  const haystack = new Array(N);
  for (let n = 0; n < N; n++) {
    const problem = D.problem[n];
    haystack[n] = `${D.name[n]} ${D.id[n]} ${D.words[D.status[n]]}${problem ? ` ${problem[0]} ${problem[1]}` : ''}`.toLowerCase();
  }
  const gone = new Set(D.gone);
  const outputs = (n) => !D.outputs[n] ? '–' : D.outputs[n][0] === D.outputs[n][1] ? count(D.outputs[n][1])
    : `${count(D.outputs[n][0])} of ${count(D.outputs[n][1])}`;
  const word = (n) => D.shown[n] || D.words[D.status[n]];

  let sorted = { column: 1, down: false };
  let wanted = -1;
  let order = new Int32Array(N).map((_, n) => n);
  let seen = order;
  let current = 0; // the place in `seen` of the row that the Tab key reaches
  let printing = false;
  const rows = new Map(); // place in `seen` → its element

  const root = $('flows'), shown = $('shown'), filter = $('filter'), sorter = $('sorter'), dialog = $('detail');
  const head = make('div', { role: 'row', 'aria-rowindex': 1 });
  COLUMNS.forEach((column, c) => {
    const button = make('button', { type: 'button' }, column.title);
    button.addEventListener('click', () => sortBy(c, sorted.column === c ? !sorted.down : Boolean(column.number)));
    column.head = make('div', { role: 'columnheader', class: `c-${column.mark}${column.number ? ' c-num' : ''}` }, button);
    head.append(column.head);
    for (const down of column.number ? [true, false] : [false, true]) {
      sorter.append(make('option', { value: `${c} ${Number(down)}` }, `${column.title}, ${(column.ways || SIZES)[Number(down)]}`));
    }
  });
  const body = make('div', { role: 'rowgroup', class: 'body' });
  const hint = make('p', { class: 'off', id: 'flows-hint' }, 'Arrow keys move from flow to flow; Enter shows one.');
  const table = make('div', { role: 'table', 'aria-labelledby': 'h-flows', 'aria-describedby': 'flows-hint',
    'aria-colcount': COLUMNS.length }, make('div', { role: 'rowgroup', class: 'head' }, head), body);
  const empty = make('p', { class: 'empty' }, 'No flow is like that.');
  root.append(hint, table, empty);
  root.hidden = false;
  document.querySelector('.tools').hidden = false;

  let height = 54;
  const measure = () => { height = parseFloat(getComputedStyle(document.documentElement).getPropertyValue('--row')) || 54; };

  function cell(mark, ...children) {
    const column = COLUMNS.find((column) => column.mark === mark);
    return make('div', { role: 'cell', class: `c-${column.mark}${column.number ? ' c-num' : ''}` }, ...children);
  }

  function picture(uri, alt, edge) {
    const made = make('img', { src: D.uris[uri], alt, width: edge, height: edge });
    made.addEventListener('error', () => made.replaceWith(make('span', { class: 'none' }))); // taken as it was, and broken
    return made;
  }

  function row(place) {
    const n = seen[place], problem = D.problem[n], pictures = D.pictures[n];
    const name = make('button', { type: 'button', tabindex: place === current ? 0 : -1, 'aria-haspopup': 'dialog' },
      make('bdi', {}, D.name[n]));
    const sub = problem ? make('span', { class: 'sub bad' }, make('bdi', {}, problem[1]))
      : gone.has(n) ? make('span', { class: 'sub' }, 'no longer in the manifest')
      : make('span', { class: 'sub mono' }, D.id[n]);
    const first = cell('name', make('div', {}, name, sub));
    if (pictures) first.prepend(picture(pictures[0][0], '', 38));
    else if (pictured) first.prepend(make('span', { class: 'none' }));
    const state = cell('state', word(n));
    state.classList.add(`s-${D.words[D.status[n]]}`);
    const inputs = D.accepted[n] === D.inputs[n] ? count(D.inputs[n]) : `${count(D.accepted[n])} of ${count(D.inputs[n])}`;
    const started = times(n)[5];
    const made = make('div', { role: 'row', 'aria-rowindex': place + 2 }, first, state, cell('inputs', inputs),
      ...(collected ? [cell('outputs', outputs(n))] : []), cell('size', bytes(D.size[n])),
      cell('took', took(n) < 0 ? '–' : span(took(n))), cell('started', started == null ? '–' : moment(started)));
    made.style.transform = `translateY(${place * height}px)`;
    made.addEventListener('click', (event) => {
      if (!event.target.closest('button') && !getSelection().isCollapsed) return; // somebody copies a text
      current = place;
      show(n);
    });
    return made;
  }

  // Rows that stay in view keep their elements, and so does the one that has the focus.
  function draw() {
    const top = Math.max(0, root.scrollTop);
    let from = Math.max(0, Math.floor(top / height) - OVERSCAN);
    let to = Math.min(seen.length, Math.ceil((top + root.clientHeight) / height) + OVERSCAN);
    if (printing) [from, to] = [0, Math.min(seen.length, PRINTED)];
    for (const [place, element] of rows) {
      if ((place < from || place >= to) && !element.contains(document.activeElement)) {
        element.remove();
        rows.delete(place);
      }
    }
    for (let place = from; place < to; place++) {
      if (rows.has(place)) continue;
      const element = row(place);
      let after = place + 1;
      while (after < to && !rows.has(after)) after++;
      body.insertBefore(element, rows.get(after) || null); // in their order, for those who listen
      rows.set(place, element);
    }
  }

  function redraw() {
    for (const element of rows.values()) element.remove();
    rows.clear();
    if (!seen.length || current >= seen.length) current = 0;
    body.style.height = `${seen.length * height}px`;
    table.setAttribute('aria-rowcount', seen.length + 1);
    empty.hidden = seen.length > 0;
    draw();
  }

  let telling = 0;
  function tell() {
    clearTimeout(telling);
    const column = COLUMNS[sorted.column], number = seen.length === N ? count(N) : `${count(seen.length)} of ${count(N)}`;
    const words = `${number} ${N === 1 ? 'flow' : 'flows'}, by ${column.title.toLowerCase()}, ` +
      (column.ways || SIZES)[Number(sorted.down)];
    telling = setTimeout(() => { shown.textContent = words; }, shown.textContent ? 200 : 0);
  }

  function sift() {
    const terms = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    seen = !terms.length && wanted < 0 ? order : order.filter((n) =>
      (wanted < 0 || D.status[n] === wanted) && terms.every((term) => haystack[n].includes(term)));
    current = 0;
    root.scrollTop = 0;
    redraw();
    tell();
  }

  function sortBy(c, down) {
    sorted = { column: c, down };
    const keys = COLUMNS[c].keys, sign = down ? -1 : 1;
    order.sort((a, b) => sign * (keys[a] - keys[b]) || a - b);
    COLUMNS.forEach((column, i) => column.head.setAttribute('aria-sort', i === c ? (down ? 'descending' : 'ascending') : 'none'));
    sorter.value = `${c} ${Number(down)}`;
    sift();
  }

  function show(n) {
    const problem = D.problem[n], t = times(n);
    const close = make('button', { type: 'button', class: 'close', 'aria-label': 'Close' }, '×');
    close.addEventListener('click', () => dialog.close());
    const facts = make('dl');
    const fact = (name, ...value) => facts.append(make('dt', {}, name), make('dd', {}, ...value));
    const more = D.more[n] || {};
    fact('State', word(n) + (gone.has(n) ? ', no longer in the manifest' : ''));
    fact('Inputs', `${count(D.accepted[n])} of ${count(D.inputs[n])} uploaded, ${bytes(D.size[n])}`);
    if (D.outputs[n]) fact('Outputs', `${outputs(n)} collected`, ...(more.to ? [', to ', make('bdi', {}, more.to)] : []));
    if (D.id[n]) fact('Flow id', make('code', {}, D.id[n]));
    ['Taken up', 'Opened', 'First upload', 'Last upload', 'Checked', 'Started'].forEach((name, i) => {
      if (t[i] != null) fact(name, moment(t[i], true), i && t[0] != null ? make('span', { class: 'quiet' }, `  + ${span(t[i] - t[0])}`) : '');
    });
    dialog.replaceChildren(close, make('h3', { id: 'detail-name' }, make('bdi', {}, D.name[n])));
    if (problem) {
      const said = make('div', { class: 'said' }, make('p', {}, make('strong', {}, problem[0]), ': ', make('bdi', {}, problem[1])));
      if (problem[2]) said.append(make('p', {}, problem[2][0].toUpperCase() + problem[2].slice(1) + '.'));
      if (problem[3]) said.append(make('p', { class: 'quiet' }, make('bdi', {}, problem[3])));
      dialog.append(said);
    }
    if (more.seen) fact('Last shown', moment(more.seen, true));
    (more.attempts || []).forEach(([id, at, became], i) => fact(`Attempt ${i + 1}`, make('code', {}, id),
      at == null ? '' : make('span', {}, ', started ', moment(at, true)),
      became ? make('span', {}, ', ', make('bdi', {}, became)) : ''));
    dialog.append(facts);
    if (D.pictures[n]) {
      dialog.append(make('ul', { class: 'pictures', 'aria-label': 'Pictures' }, ...D.pictures[n].map(([uri, label]) =>
        make('li', {}, picture(uri, label, 96), make('bdi', {}, label.split('/').pop())))));
    }
    dialog.showModal();
    dialog.scrollTop = 0;
  }
  dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener('close', () => focus(current));

  function focus(place) {
    place = Math.max(0, Math.min(seen.length - 1, place));
    if (!seen.length) return;
    const old = rows.get(current);
    if (old) old.querySelector('button').tabIndex = -1;
    current = place;
    const top = place * height, headed = body.offsetTop;
    if (top < root.scrollTop) root.scrollTop = top;
    else if (top + height > root.scrollTop + root.clientHeight - headed) root.scrollTop = top + height - root.clientHeight + headed;
    draw();
    const button = rows.get(place).querySelector('button');
    button.tabIndex = 0;
    button.focus({ preventScroll: true });
  }
  body.addEventListener('keydown', (event) => {
    const page = Math.max(1, Math.floor(root.clientHeight / height) - 2);
    const to = { ArrowDown: current + 1, ArrowUp: current - 1, PageDown: current + page, PageUp: current - page,
      Home: 0, End: seen.length - 1 }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    focus(to);
  });

  root.addEventListener('scroll', draw, { passive: true });
  filter.addEventListener('input', sift);
  sorter.addEventListener('change', () => { const [c, down] = sorter.value.split(' '); sortBy(Number(c), down === '1'); });
  for (const chip of document.querySelectorAll('.chips button')) {
    chip.addEventListener('click', () => {
      wanted = Number(chip.dataset.show);
      for (const other of document.querySelectorAll('.chips button')) other.setAttribute('aria-pressed', String(other === chip));
      sift();
    });
  }
  addEventListener('resize', () => { measure(); redraw(); });
  addEventListener('beforeprint', () => { printing = true; draw(); });
  addEventListener('afterprint', () => { printing = false; draw(); });

  const timed = COLUMNS.find((column) => column.mark === 'started').head;
  timed.title = `Times are in ${zone(new Date())}`;
  table.classList.toggle('with-outputs', collected);
  measure();
  sortBy(1, false);
  requestAnimationFrame(() => performance.mark('ready'));
})();
