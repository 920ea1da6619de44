// The cards: filtered, only those in view in the document, each model loaded when it comes into view. Everything is as the
// page has it: names are set as text, never as markup.
(() => {
  'use strict';
  const $ = (id) => document.getElementById(id);
  const D = JSON.parse($('data').textContent);
  const CARDS = D.cards, FLOWS = D.flows, N = CARDS.length;
  const COLLECTED = 0, GAP = 16, NARROWEST = 348, OVERSCAN = 1, ABOUT = 148, PADDING = 12;
  const LOADS = 2; // models at a time: more take turns at the one renderer, and all of them come late
  const RESTS_MS = 120; // so long a page stands still before models are loaded: what flies past is not
  const POSTERS = 400; // pictures of models that were in view, some 15 kB each: shown at once when one comes back
  const SUGGESTED = 50;
  const asFile = location.protocol === 'file:';

  const make = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined) made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  };
  const bdi = (text) => make('bdi', {}, text);
  const count = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, '\u202f');
  const two = (n) => String(n).padStart(2, '0');
  const local = (date) => `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
    `${two(date.getHours())}:${two(date.getMinutes())}`;
  const bytes = (n) => {
    for (const unit of ['B', 'kB', 'MB', 'GB']) {
      if (n < 1000) return unit === 'B' ? `${n} B` : `${n.toFixed(1)} ${unit}`;
      n /= 1000;
    }
    return `${n.toFixed(1)} TB`;
  };
  for (const time of document.querySelectorAll('time')) {
    time.title = time.getAttribute('datetime');
    time.textContent = local(new Date(time.title));
  }

  const flowOf = (card) => FLOWS[card.f][0];
  const idOf = (card) => FLOWS[card.f][1];
  const wordOf = (card) => D.words[card.s];
  const titleOf = (card) => card.l && card.l !== flowOf(card) ? card.l.split('/').pop() : '';
  const membersOf = (card) => {
    const pairs = [];
    for (let n = 0; card.x && n < card.x.length; n += 2) pairs.push([D.members[card.x[n]], card.x[n + 1]]);
    return pairs;
  };

  // ---- Trouble: what does not work here, in one line above the cards.
  const troubles = new Set();
  function trouble(text) {
    troubles.add(text);
    $('trouble').textContent = [...troubles].join(' ');
    $('trouble').hidden = false;
  }
  const drawable = Boolean(document.createElement('canvas').getContext('webgl2'));
  if (!drawable) trouble('This browser draws no WebGL here, so models cannot be turned; their files can be opened.');
  if (asFile && D.served) trouble('This gallery was made with --served: models are shown once it lies on a web server.');

  // ---- Marks: kept by this browser, one entry each, for an attempt (a flow's id): what is made again is unmarked.
  const PREFIX = `batcher-gallery ${D.key} `;
  const marks = new Map(); // key → [mark, reason]
  const keyOf = (card) => `${idOf(card) || flowOf(card)} ${card.a || card.l || ''}`;
  const markOf = (card) => marks.get(keyOf(card))?.[0] || '';
  const whyOf = (card) => marks.get(keyOf(card))?.[1] || '';
  function readMarks() {
    marks.clear();
    try {
      for (let n = 0; n < localStorage.length; n++) {
        const key = localStorage.key(n);
        if (!key.startsWith(PREFIX)) continue;
        const value = localStorage.getItem(key) || '';
        if (value[0] === 'a' || value[0] === 'r') marks.set(key.slice(PREFIX.length), [value[0], value.slice(1)]);
      }
    } catch { lost(); }
  }
  const lost = () => trouble('This browser keeps no marks for this page: export them before you close it.');
  function setMark(n, mark, why = '') {
    const card = CARDS[n], key = keyOf(card);
    if (mark) marks.set(key, [mark, why]);
    else marks.delete(key);
    try {
      if (mark) localStorage.setItem(PREFIX + key, mark + why);
      else localStorage.removeItem(PREFIX + key);
    } catch { lost(); }
    tellMarks();
  }
  readMarks();
  addEventListener('storage', (event) => {
    if (event.key && !event.key.startsWith(PREFIX)) return;
    readMarks();
    tellMarks();
    for (const [place, element] of shown) paintMark(element, seen[place]);
  });

  // ---- The filter
  const haystack = new Array(N);
  function hay(n) {
    if (haystack[n] === undefined) {
      const c = CARDS[n];
      haystack[n] = [flowOf(c), c.l, idOf(c), c.a, c.p, c.w, c.n, wordOf(c), ...membersOf(c).map(([, value]) => value)]
        .filter(Boolean).join('\n').toLowerCase();
    }
    return haystack[n];
  }
  const text = $('text'), flow = $('flow'), member = $('member'), value = $('value');
  let wantedState = -1, wantedMark = '*';
  let seen = CARDS.map((_, n) => n);
  let current = 0; // the place in `seen` of the card that the Tab key reaches

  function chips(root, entries, choose) {
    for (const [key, title] of entries) {
      const chip = make('button', { type: 'button', 'aria-pressed': String(root.childElementCount === 0), 'data-key': key }, title, ' ', make('b'));
      chip.addEventListener('click', () => { press(root, key); choose(key); sift(); });
      root.append(chip);
    }
  }
  function press(root, key) {
    for (const chip of root.children) chip.setAttribute('aria-pressed', String(chip.dataset.key === String(key)));
  }
  const ofState = D.words.map(() => 0);
  for (const card of CARDS) ofState[card.s]++;
  const capital = (word) => word[0].toUpperCase() + word.slice(1);
  chips($('states'), [[-1, 'All'], ...D.words.map((word, s) => [s, capital(word)]).filter(([s]) => ofState[s])],
    (key) => { wantedState = Number(key); });
  for (const chip of $('states').children) {
    const s = Number(chip.dataset.key);
    chip.lastChild.textContent = count(s < 0 ? N : ofState[s]);
  }
  chips($('marks'), [['*', 'Any mark'], ['', 'Unmarked'], ['a', 'Accepted'], ['r', 'Rejected']], (key) => { wantedMark = key; });

  if (D.members.length) {
    member.append(make('option', { value: '' }, 'any member'));
    D.members.forEach((name, n) => member.append(make('option', { value: n }, name)));
  } else document.querySelector('.member').hidden = true;

  function suggest(list, field, values) {
    const typed = field.value.toLowerCase(), found = new Set();
    for (const one of values) {
      if (one.toLowerCase().includes(typed)) found.add(one);
      if (found.size >= SUGGESTED) break;
    }
    list.replaceChildren(...[...found].map((one) => make('option', { value: one })));
  }
  function* valuesOf() {
    const which = member.value;
    for (const card of CARDS) {
      for (let n = 0; card.x && n < card.x.length; n += 2) if (which === '' || card.x[n] === Number(which)) yield card.x[n + 1];
    }
  }
  const suggestFlows = () => suggest($('flow-names'), flow, FLOWS.map((one) => one[0]));
  const suggestValues = () => suggest($('values'), value, valuesOf());

  function fits(n, terms) {
    const card = CARDS[n];
    if (wantedState >= 0 && card.s !== wantedState) return false;
    if (wantedMark !== '*' && markOf(card) !== wantedMark) return false;
    if (flow.value && !flowOf(card).toLowerCase().includes(flow.value.toLowerCase())) return false;
    if (value.value || member.value) {
      const wanted = value.value.toLowerCase(), which = member.value;
      const has = membersOf(card).some(([name, one]) =>
        (which === '' || name === D.members[Number(which)]) && one.toLowerCase().includes(wanted));
      if (!has) return false;
    }
    return !terms.length || terms.every((term) => hay(n).includes(term));
  }
  function sift() {
    const terms = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = [];
    for (let n = 0; n < N; n++) if (fits(n, terms)) found.push(n);
    seen = found;
    current = 0;
    redraw();
    const y = root.getBoundingClientRect().top;
    if (y < 0) scrollBy(0, y - toolsHeight());
    tell();
  }
  let telling = 0;
  function tell() {
    clearTimeout(telling);
    const words = `${seen.length === N ? count(N) : `${count(seen.length)} of ${count(N)}`} ${N === 1 ? 'input' : 'inputs'}`;
    telling = setTimeout(() => { $('told').textContent = words; }, $('told').textContent ? 200 : 0);
  }
  function tellMarks() {
    let accepted = 0, rejected = 0;
    for (const card of CARDS) {
      const mark = markOf(card);
      if (mark === 'a') accepted++;
      if (mark === 'r') rejected++;
    }
    $('export').lastChild.textContent = count(accepted + rejected);
    const numbers = [N, N - accepted - rejected, accepted, rejected];
    [...$('marks').children].forEach((chip, n) => { chip.lastChild.textContent = n ? count(numbers[n]) : ''; });
  }

  // ---- Models: bytes, then a viewer. A page that was opened as a file is let load scripts, and nothing else.
  const waiting = new Map(), coming = new Map();
  globalThis.batcherModel = (id, data) => waiting.get(id)?.(data);
  function script(src) {
    return new Promise((done, fail) => {
      const element = make('script', { src });
      element.onload = () => { element.remove(); done(); };
      element.onerror = () => { element.remove(); fail(new Error('what the page needs for it is gone: make the gallery again')); };
      document.head.append(element);
    });
  }
  let viewerScript = null;
  async function viewerReady() {
    viewerScript ??= script(D.viewer).then(() => { globalThis.ModelViewerElement.ModelViewerElement.modelCacheSize = 0; });
    return viewerScript;
  }
  function textOf(id) { // a card and the one shown large may ask for the same model at once
    const load = async () => {
      let data = null;
      waiting.set(id, (given) => { data = given; });
      try { await script(`${D.place}/models/${id}.js`); } finally { waiting.delete(id); coming.delete(id); }
      if (data === null) throw new Error('what the page needs for it is broken: make the gallery again');
      const source = String(data);
      return source.slice(source.indexOf('/*') + 2, source.lastIndexOf('*/'));
    };
    if (!coming.has(id)) coming.set(id, load());
    return coming.get(id);
  }
  async function fromScript(id) {
    const coded = await textOf(id);
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(coded).buffer;
    const raw = atob(coded), made = new Uint8Array(raw.length);
    for (let n = 0; n < raw.length; n++) made[n] = raw.charCodeAt(n);
    return made.buffer;
  }
  async function bytesOf(href, id) {
    if (!asFile && href && !href.startsWith('file:')) {
      const answer = await fetch(href).catch(() => null);
      if (answer?.ok) return answer.arrayBuffer();
      if (!id) throw new Error(`the file cannot be loaded${answer ? ` (${answer.status})` : ''}`);
    }
    if (!id) throw new Error('it is too large to be turned here; its file can be opened');
    return fromScript(id);
  }
  // What the viewer would ask other hosts for, or cannot read: found before it tries.
  function checked(buffer) {
    const view = new DataView(buffer);
    if (buffer.byteLength < 20 || view.getUint32(0, true) !== 0x46546c67) throw new Error('it is no GLB');
    if (view.getUint32(4, true) !== 2) throw new Error('it is a GLB of an old version');
    const length = Math.min(view.getUint32(12, true), buffer.byteLength - 20);
    let model = {};
    try { model = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 20, length))); } catch { throw new Error('its description is broken'); }
    const used = model.extensionsUsed || [];
    for (const name of ['KHR_draco_mesh_compression', 'KHR_texture_basisu', 'EXT_meshopt_compression']) {
      if (used.includes(name)) throw new Error(`it is packed with ${name}, which this page cannot unpack; its file can be opened`);
    }
    for (const part of [...(model.images || []), ...(model.buffers || [])]) {
      if (part.uri && !String(part.uri).startsWith('data:')) throw new Error('it refers to other files');
    }
    return buffer;
  }
  // The light: a white room with a lamp, six bright panes and things on its floor, as a panorama. It is the viewer's own
  // "neutral", which would be made and blurred in four times the detail: without a graphics processor that takes seconds.
  const WIDE = 256, HIGH = 128, LAMP = [0.5, 10.5, 0.5], ROOM = [[0, 9.7, 0], [15.75, 14.25, 15.75]];
  const THINGS = [[[-10.9, -4.5, 1.8], [1.2, 4, 2.3]], [[-5.6, -4.25, -0.8], [1.8, 0.8, 1.5]], [[6.2, -3.7, 7.8], [2.3, 3.1, 2.2]],
    [[-2, -3.5, 6.1], [1.1, 2.3, 1.1]], [[2.3, -4.25, -2.6], [0.8, 0.8, 0.8]], [[-2.2, -3.9, -5.5], [2.1, 1.7, 1.8]]];
  const PANES = [[[-14, 6.5, 8], [0.05, 1.25, 1.25], 80], [[-14, 10.5, -4], [0.05, 1.25, 1.25], 80], [[14, 8.5, 0], [0.05, 2.5, 2.5], 23],
    [[0, 5.5, 14], [2.5, 2.5, 0.05], 16], [[7, 4.5, -14], [1.25, 1.25, 0.05], 80], [[-7, 12.5, -14], [1.25, 1.25, 0.05], 80]];
  function met(way, [middle, half], within) { // how far a box is, and which of its sides is met
    let near = -Infinity, far = Infinity, nearAxis = 0, farAxis = 0;
    for (let axis = 0; axis < 3; axis++) {
      const one = (middle[axis] - half[axis]) / way[axis], other = (middle[axis] + half[axis]) / way[axis];
      if (Math.min(one, other) > near) { near = Math.min(one, other); nearAxis = axis; }
      if (Math.max(one, other) < far) { far = Math.max(one, other); farAxis = axis; }
    }
    if (within) return [far, farAxis];
    return near > 0 && near <= far ? [near, nearAxis] : null;
  }
  function brightness(way) {
    let [far, axis] = met(way, ROOM, true), own = 0;
    for (const pane of PANES) {
      const hit = met(way, pane);
      if (hit && hit[0] < far) { [far, axis] = hit; own = pane[2]; }
    }
    for (const thing of THINGS) {
      const hit = met(way, thing);
      if (hit && hit[0] < far) { [far, axis] = hit; own = 0; }
    }
    if (own) return own;
    const to = LAMP.map((at, n) => at - way[n] * far), distance = Math.hypot(...to);
    const faded = Math.max(0, 1 - (distance / 28) ** 4) ** 2 / Math.max(0.01, distance ** 2);
    return 400 / Math.PI * faded * Math.max(0, -Math.sign(way[axis]) * to[axis] / distance) + 0.001;
  }
  function panorama() {
    const sharp = new Float32Array(WIDE * HIGH);
    for (let n = 0; n < sharp.length; n++) {
      const up = Math.PI * (0.5 - (Math.floor(n / WIDE) + 0.5) / HIGH), around = 2 * Math.PI * ((n % WIDE + 0.5) / WIDE - 0.5);
      sharp[n] = brightness([Math.cos(up) * Math.cos(around), Math.sin(up), Math.cos(up) * Math.sin(around)]);
    }
    const head = new TextEncoder().encode(`#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y ${HIGH} +X ${WIDE}\n`);
    const made = new Uint8Array(head.length + 4 * sharp.length);
    made.set(head);
    for (let n = 0; n < sharp.length; n++) {
      let sum = 0;
      for (let y = -2; y <= 2; y++) {
        const row = Math.max(0, Math.min(HIGH - 1, Math.floor(n / WIDE) + y)) * WIDE;
        for (let x = -2; x <= 2; x++) sum += sharp[row + (n + x + WIDE) % WIDE];
      }
      const exponent = Math.ceil(Math.log2(sum / 25)), at = head.length + 4 * n;
      made.fill(Math.round(255 * sum / 25 / 2 ** exponent), at, at + 3);
      made[at + 3] = 128 + exponent;
    }
    return `${URL.createObjectURL(new Blob([made]))}#.hdr`; // by this ending the viewer knows what it is
  }
  let lightMade = null;
  function lightReady() {
    if (lightMade) return lightMade;
    const warn = console.warn; // the viewer says on the console, once, that its own loader of panoramas is deprecated
    console.warn = (...words) => { if (/^RGBELoader/.test(words[0])) console.warn = warn; else warn(...words); };
    const url = panorama();
    lightMade = fetch(url).then(() => url, () => null); // a browser that cannot read it has the viewer's own
    return lightMade;
  }
  const posters = new Map(); // key of a model → a picture of it
  const modelKey = (card, which) => which === 'm' ? `m ${card.o}` : `i ${card.h}`;
  async function show(figure, card, which, large) {
    const [href, id] = which === 'm' ? [card.o, card.m] : [card.h, card.i];
    const [buffer, light] = await Promise.all([bytesOf(href, id).then(checked), lightReady(), viewerReady()]);
    if (!figure.isConnected) return;
    const url = URL.createObjectURL(new Blob([buffer], { type: 'model/gltf-binary' }));
    buffer.transfer?.(0); // the Blob has it now: given back at once, where a browser takes its time to find out
    const name = which === 'm' ? `Output of ${flowOf(card)}${titleOf(card) ? `, ${titleOf(card)}` : ''}` : `Input ${card.l}`;
    const viewer = make('model-viewer', { alt: name, 'camera-controls': '', loading: 'eager', 'interaction-prompt': 'none',
      'touch-action': large ? 'none' : 'pan-y', 'shadow-intensity': '0.7', 'camera-orbit': '-25deg 75deg auto',
      'environment-image': light, exposure: light && '1.3',
      tabindex: large ? null : '-1', 'disable-zoom': large ? null : '', 'disable-pan': large ? null : '' },
      make('span', { slot: 'progress-bar' }));
    try {
      await new Promise((done, fail) => {
        viewer.addEventListener('load', done, { once: true });
        viewer.addEventListener('error', () => fail(new Error('it cannot be shown; its file can be opened')), { once: true });
        viewer.src = url;
        figure.append(viewer);
        figure.viewer = viewer;
        setTimeout(() => { if (!figure.isConnected) done(); }, 2000); // it left before it was there
      });
    } catch (error) {
      viewer.remove();
      throw error;
    } finally { URL.revokeObjectURL(url); }
    figure.classList.add('ready');
    performance.mark('model');
    if (!large) requestAnimationFrame(() => requestAnimationFrame(() => remember(viewer, modelKey(card, which))));
  }
  function remember(viewer, key) {
    if (!viewer.isConnected || posters.has(key)) return;
    try { posters.set(key, viewer.toDataURL('image/webp', 0.8)); } catch { return; }
    if (posters.size > POSTERS) posters.delete(posters.keys().next().value);
  }

  // Panes in view that wait for their model; what has left the view is forgotten.
  let loading = 0, resting = 0;
  function fill() {
    if (!drawable) return;
    const middle = innerHeight / 2, wanted = [];
    for (const [place, element] of shown) {
      const box = element.getBoundingClientRect();
      if (box.bottom < 0 || box.top > innerHeight) continue;
      for (const figure of element.querySelectorAll('figure[data-model]:not([data-asked])')) {
        wanted.push([Math.abs((box.top + box.bottom) / 2 - middle), place, figure]);
      }
    }
    wanted.sort((a, b) => a[0] - b[0]);
    for (const [, place, figure] of wanted.slice(0, LOADS - loading)) {
      figure.dataset.asked = '';
      loading++;
      show(figure, CARDS[seen[place]], figure.dataset.model, false).catch((error) => fail(figure, error)).finally(() => {
        loading--;
        fill();
      });
    }
  }
  function fail(figure, error) {
    figure.classList.add('failed');
    figure.querySelector('.note')?.remove();
    figure.append(make('p', { class: 'note' }, `Not shown: ${error.message}.`));
  }
  function soon() {
    clearTimeout(resting);
    resting = setTimeout(fill, RESTS_MS);
  }

  // ---- Panes and cards
  const reachable = (href) => href && (asFile || !href.startsWith('file:'));
  const link = (href, title) => reachable(href) ? make('a', { href, target: '_blank', rel: 'noopener noreferrer' }, title)
    : make('span', { class: 'quiet', title: decodeURIComponent(href.replace(/%[89a-f][0-9a-f]/gi, '?')) }, title, ' (on its own machine)');
  const note = (words, tone = '') => make('p', { class: `note ${tone}` }, words);

  function image(href, alt) {
    const made = make('img', { src: href, alt, loading: 'lazy', decoding: 'async', draggable: 'false' });
    made.addEventListener('error', () => made.replaceWith(note('The picture cannot be shown.')));
    return made;
  }
  const kindOf = (path) => {
    const ending = /\.(\w{1,8})$/.exec(path || '');
    return ending ? `a ${ending[1].toUpperCase()}` : 'a file of this kind';
  };
  function inputPane(card) {
    const figure = make('figure', { class: `pane in k-${card.k || 'unknown'}` });
    switch (card.k) {
      case 'image': figure.append(reachable(card.h) ? image(card.h, `Input ${card.l}`) : note('The picture lies on its own machine.')); break;
      case 'model': model(figure, card, 'i'); break;
      case 'text': figure.append(make('blockquote', {}, bdi(card.p || ''))); break;
      case 'gone': figure.append(note('The input has gone:', 'bad'), make('p', { class: 'note' }, bdi(card.h || card.l))); break;
      case 'other': figure.append(note(`Browsers do not show ${kindOf(card.l)}.`)); break;
      case 'elsewhere': figure.append(note('The input lies in an object store.')); break;
      default: figure.append(note(card.l ? 'This input is no longer in the manifest.' : 'Which input it came from is not known.'));
    }
    return figure;
  }
  function outputPane(card) {
    const figure = make('figure', { class: 'pane out' });
    if (card.t === 'model') model(figure, card, 'm');
    else if (card.t === 'image') figure.append(image(card.o, `Output of ${flowOf(card)}`));
    else if (card.o) figure.append(note(`Browsers do not show ${kindOf(card.n)}.`));
    else figure.append(note(`${capital(wordOf(card))}.`, card.s > COLLECTED && card.s < 5 ? 'bad' : ''), make('p', { class: 'note why-not' }, bdi(card.w || '')));
    return figure;
  }
  function model(figure, card, which) {
    const poster = posters.get(modelKey(card, which));
    if (drawable) figure.dataset.model = which;
    if (poster) figure.append(make('img', { src: poster, alt: '', class: 'poster' }));
    else figure.append(drawable ? make('span', { class: 'loading' }) : note('A model.'));
  }
  function links(card) {
    const made = [];
    if (card.h && card.k !== 'gone') made.push(link(card.h, 'Input'));
    if (card.o) made.push(link(card.o, card.t === 'model' ? 'Model' : 'Output'));
    return made;
  }
  function markers(n) {
    const card = CARDS[n];
    const group = make('div', { class: 'marks', role: 'group', 'aria-label': 'Mark' });
    for (const [mark, title, sign] of [['a', 'Accept', '✓'], ['r', 'Reject', '✕']]) {
      const button = make('button', { type: 'button', class: `mark-${mark}`, 'data-mark': mark, 'aria-keyshortcuts': mark,
        'aria-label': `${title} ${flowOf(card)}` }, make('span', { 'aria-hidden': 'true' }, sign), title);
      button.addEventListener('click', () => toggle(n, mark));
      group.append(button);
    }
    return group;
  }
  function whyField(n) {
    const field = make('input', { class: 'why', placeholder: 'why? goes into the list', 'aria-label': `Why ${flowOf(CARDS[n])} is rejected`,
      maxlength: 300, autocomplete: 'off' });
    field.value = whyOf(CARDS[n]);
    field.addEventListener('input', () => setMark(n, 'r', field.value));
    return field;
  }
  function toggle(n, mark) {
    const card = CARDS[n], on = markOf(card) === mark;
    setMark(n, on ? '' : mark, on || mark !== 'r' ? '' : whyOf(card));
    for (const [place, element] of shown) if (seen[place] === n) paintMark(element, n);
    if (detail.open) paintMark(detail, n);
    say(`${flowOf(card)}: ${on ? 'no mark' : mark === 'a' ? 'accepted' : 'rejected'}`);
  }
  function say(words) {
    clearTimeout(telling);
    $('told').textContent = words;
    telling = setTimeout(() => { $('told').textContent = ''; tell(); }, 2500);
  }
  function paintMark(element, n) {
    const mark = markOf(CARDS[n]);
    element.dataset.mark = mark;
    for (const button of element.querySelectorAll('[data-mark]')) {
      button.setAttribute('aria-pressed', String(button.dataset.mark === mark));
    }
    const slot = element.querySelector('.slot');
    const there = slot.querySelector('.why');
    if (mark === 'r' && !there) {
      slot.append(whyField(n));
      reach(element, element.tabIndex === 0 || element === detail);
    } else if (mark !== 'r') there?.remove();
    else if (there !== document.activeElement) there.value = whyOf(CARDS[n]);
  }

  const root = $('cards'), detail = $('detail'), list = $('list');
  const shown = new Map(); // place in `seen` → its element
  let columns = 1, width = NARROWEST, height = 300;
  const toolsHeight = () => { const tools = document.querySelector('.tools'); return getComputedStyle(tools).position === 'sticky' ? tools.offsetHeight + 8 : 8; };

  function measure() {
    const room = root.clientWidth;
    columns = Math.max(1, Math.floor((room + GAP) / (NARROWEST + GAP)));
    width = (room - GAP * (columns - 1)) / columns;
    height = Math.round((width - 2 * PADDING - 8) / 2) + ABOUT;
  }
  function card(place) {
    const n = seen[place], c = CARDS[n], id = `card-${n}`;
    const title = make('button', { type: 'button', class: 'title', 'aria-haspopup': 'dialog' }, bdi(flowOf(c)));
    title.addEventListener('click', () => { focusOn(place, false); open(n); });
    const subject = [titleOf(c), ...membersOf(c).slice(0, 3).map(([name, one]) => `${name}: ${one}`)].filter(Boolean).join(' · ');
    const under = make('p', { class: 'sub' }, c.e ? make('span', { class: 'tag' }, 'earlier attempt') : '',
      c.o && c.w ? make('span', { class: 'bad' }, bdi(c.w), ' · ') : '', bdi(subject || idOf(c)));
    const state = make('span', { class: `state s${c.s}`, id: `${id}-state` }, capital(wordOf(c)));
    const element = make('article', { class: 'card', 'aria-posinset': place + 1, 'aria-setsize': seen.length, 'aria-labelledby': `${id}-name`,
      'aria-describedby': `${id}-state` },
      make('div', { class: 'pair' }, inputPane(c), outputPane(c)),
      make('div', { class: 'about' }, make('h2', { id: `${id}-name` }, title), make('div', { class: 'slot' }, under),
        make('div', { class: 'line' }, state, ...links(c))), markers(n));
    element.style.width = `${width}px`;
    element.style.height = `${height}px`;
    element.style.transform = `translate(${(place % columns) * (width + GAP)}px, ${Math.floor(place / columns) * (height + GAP)}px)`;
    element.querySelector('.in').addEventListener('click', (event) => {
      if (event.target.closest('model-viewer') || !getSelection().isCollapsed) return;
      focusOn(place, false);
      open(n);
    });
    element.addEventListener('focusin', () => { if (current !== place) turnTo(place); });
    paintMark(element, n);
    reach(element, place === current);
    return element;
  }
  // The Tab key goes to one card and through what is in it.
  function reach(element, on) {
    if (element !== detail) element.tabIndex = on ? 0 : -1;
    for (const inner of element.querySelectorAll('button, a, input')) inner.tabIndex = on ? 0 : -1;
    if (element !== detail) for (const viewer of element.querySelectorAll('model-viewer')) viewer.tabIndex = -1;
  }
  function turnTo(place) {
    const old = shown.get(current);
    if (old) reach(old, false);
    current = place;
    const now = shown.get(place);
    if (now) reach(now, true);
  }

  // Cards that stay in view keep their elements, and so does the one that has the focus.
  function draw() {
    const top = -root.getBoundingClientRect().top, row = height + GAP;
    const from = Math.max(0, Math.floor(top / row) - OVERSCAN) * columns;
    const to = Math.min(seen.length, (Math.ceil((top + innerHeight) / row) + OVERSCAN) * columns);
    for (const [place, element] of shown) {
      if ((place < from || place >= to) && !element.contains(document.activeElement)) {
        element.remove();
        shown.delete(place);
      }
    }
    for (let place = from; place < to; place++) {
      if (shown.has(place)) continue;
      const element = card(place);
      let after = place + 1;
      while (after < to && !shown.has(after)) after++;
      root.insertBefore(element, shown.get(after) || null); // in their order, for those who listen
      shown.set(place, element);
    }
    soon();
  }
  function redraw() {
    for (const element of shown.values()) element.remove();
    shown.clear();
    if (current >= seen.length) current = Math.max(0, seen.length - 1);
    root.style.height = `${Math.max(0, Math.ceil(seen.length / columns) * (height + GAP) - GAP)}px`;
    root.hidden = !seen.length;
    $('empty').hidden = seen.length > 0 || !N;
    draw();
  }
  function focusOn(place, take = true) {
    place = Math.max(0, Math.min(seen.length - 1, place));
    if (!seen.length) return;
    const row = height + GAP, top = Math.floor(place / columns) * row + root.getBoundingClientRect().top, head = toolsHeight();
    if (top < head) scrollBy(0, top - head);
    else if (top + height > innerHeight - 8) scrollBy(0, Math.min(top - head, top + height - innerHeight + 8));
    draw();
    turnTo(place);
    if (take) shown.get(place).focus({ preventScroll: true });
  }

  const typing = (target) => target.matches('input:not([type=checkbox]), select, textarea');
  root.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (typing(event.target)) {
      if (event.key === 'Escape' || event.key === 'Enter') shown.get(current)?.focus({ preventScroll: true });
      return;
    }
    const inViewer = event.target.localName === 'model-viewer'; // there the arrows turn the model
    const screen = Math.max(1, Math.floor(innerHeight / (height + GAP))) * columns;
    const to = inViewer ? undefined : { ArrowRight: current + 1, ArrowLeft: current - 1, ArrowDown: current + columns, ArrowUp: current - columns,
      PageDown: current + screen, PageUp: current - screen, Home: 0, End: seen.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      if (to >= 0 && to < seen.length || Math.abs(to - current) > columns) focusOn(to);
    } else if (event.key === 'Enter' && event.target.matches('article')) {
      event.preventDefault();
      open(seen[current]);
    } else if (event.key === 'a' || event.key === 'r') {
      event.preventDefault();
      toggle(seen[current], event.key);
    }
  });
  addEventListener('keydown', (event) => {
    if (event.key !== '/' || event.ctrlKey || event.metaKey || typing(event.target) || document.querySelector('dialog[open]')) return;
    event.preventDefault();
    text.focus();
    text.select();
  });
  for (const field of [text, flow, value]) {
    field.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && !field.value || event.key === 'Enter') { event.preventDefault(); focusOn(current); }
    });
  }

  // ---- One, large
  let opened = -1;
  function open(n) {
    opened = n;
    const c = CARDS[n], place = seen.indexOf(n), flowInputs = FLOWS[c.f][2];
    const close = make('button', { type: 'button', class: 'close', 'aria-label': 'Close' }, '×');
    close.addEventListener('click', () => detail.close());
    const facts = make('dl');
    const fact = (name, ...values) => facts.append(make('dt', {}, name), make('dd', {}, ...values));
    fact('State', capital(wordOf(c)), c.e ? ' (of an earlier attempt)' : '', c.w ? make('span', { class: 'bad' }, ': ', bdi(c.w)) : '');
    if (c.l) fact('Input', bdi(c.l), c.k === 'gone' ? make('span', { class: 'bad' }, ' has gone') : '', ...(c.h && c.k !== 'gone' ? [' ', link(c.h, 'open')] : []));
    if (c.o) fact('Output', bdi(c.n), make('span', { class: 'quiet' }, `  ${bytes(c.b)} `), link(c.o, 'open'));
    if (c.u) fact('', make('span', { class: 'quiet' }, 'Several inputs of the flow have this name; which of them it came from is not recorded.'));
    for (const [name, one] of membersOf(c)) fact(bdi(name), bdi(one));
    if (idOf(c)) fact('Flow id', make('code', {}, idOf(c)));
    if (flowInputs > 1) fact('', make('span', { class: 'quiet' }, `To make it again pays for the flow with its ${count(flowInputs)} inputs.`));
    if (flowInputs < 0) fact('', make('span', { class: 'quiet' }, 'The flow is no longer in the manifest.'));
    for (const dd of facts.querySelectorAll('dd')) dd.normalize();
    const step = (by, title, sign) => {
      const button = make('button', { type: 'button', class: 'step', 'aria-label': title }, sign);
      button.disabled = place + by < 0 || place + by >= seen.length;
      button.addEventListener('click', () => go(by));
      return button;
    };
    detail.replaceChildren(close, make('h3', { id: 'detail-name' }, bdi(flowOf(c))),
      make('div', { class: 'pair' }, inputPane(c), outputPane(c)),
      make('div', { class: 'foot' }, step(-1, 'The one before', '←'), make('span', { class: 'quiet' }, `${count(place + 1)} of ${count(seen.length)}`),
        step(1, 'The next one', '→'), make('div', { class: 'slot' }), markers(n)), facts);
    paintMark(detail, n);
    if (!detail.open) detail.showModal();
    detail.scrollTop = 0;
    detail.querySelector('.marks button').focus({ preventScroll: true, focusVisible: false });
    for (const figure of detail.querySelectorAll('figure[data-model]')) {
      show(figure, c, figure.dataset.model, true).catch((error) => fail(figure, error));
    }
  }
  function go(by) {
    const place = seen.indexOf(opened) + by;
    if (place < 0 || place >= seen.length) return;
    focusOn(place, false);
    open(seen[place]);
  }
  detail.addEventListener('click', (event) => { if (event.target === detail) detail.close(); });
  detail.addEventListener('close', () => {
    const n = opened;
    opened = -1;
    detail.replaceChildren();
    focusOn(Math.max(0, seen.indexOf(n)));
  });
  detail.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    if (event.key === 'a' || event.key === 'r') { event.preventDefault(); toggle(opened, event.key); }
    if (event.target.localName === 'model-viewer') return;
    if (event.key === 'ArrowRight') { event.preventDefault(); go(1); }
    if (event.key === 'ArrowLeft') { event.preventDefault(); go(-1); }
  });

  // ---- The list of what is to be made again: a name on a line as `--redo-from` takes it, the attempt after a tab, the reason
  // after a #. In brackets a character stands for itself.
  const listedName = (name) => name.replace(/[*?[]/g, '[$&]').replace(/(^|\s)#/g, '$1[#]').replace(/^\s|\s$/g, '[$&]');
  const plainLine = (words) => words.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ').trim();
  function lines(mark) {
    const flows = new Map();
    for (const one of CARDS) {
      if (markOf(one) !== mark) continue;
      const words = [titleOf(one) && FLOWS[one.f][2] !== 1 ? titleOf(one) : '', plainLine(whyOf(one))].filter(Boolean).join(': ');
      flows.set(one.f, [...(flows.get(one.f) || []), words].filter(Boolean));
    }
    return [...flows].map(([f, words]) => {
      const [name, id, , raw] = FLOWS[f];
      return `${listedName(raw || name)}${id ? `\t${id}` : ''}${words.length ? `  # ${plainLine(words.join('; '))}` : ''}`;
    });
  }
  const quotedForShell = (word) => /^[\w./:@%+=-]+$/.test(word) && word[0] !== '-' ? word : `'${word.replace(/'/g, "'\\''")}'`;
  function exported() {
    let mark = 'r';
    const close = make('button', { type: 'button', class: 'close', 'aria-label': 'Close' }, '×');
    const area = make('textarea', { readonly: '', rows: 10, spellcheck: 'false', 'aria-label': 'The list', wrap: 'off' });
    const told = make('p'), command = make('pre');
    const which = make('select', { 'aria-label': 'Which marks' }, make('option', { value: 'r' }, 'Rejected: to be made again'), make('option', { value: 'a' }, 'Accepted'));
    const save = make('button', { type: 'button', class: 'main' }, 'Save as a file');
    const copy = make('button', { type: 'button' }, 'Copy');
    const clear = make('button', { type: 'button' }, 'Forget all marks');
    const name = () => mark === 'r' ? 'redo.txt' : 'accepted.txt';
    const fill = () => {
      const found = lines(mark);
      const head = [`# ${plainLine(D.batch)}: ${mark === 'r' ? 'rejected' : 'accepted'} flows, ${local(new Date())}`];
      if (mark === 'r') head.push(`# batcher run ${quotedForShell(D.manifest)} --redo-from redo.txt`);
      area.value = [...head, ...found, ''].join('\n');
      told.textContent = found.length ? `${count(found.length)} ${found.length === 1 ? 'flow' : 'flows'}.` : `Nothing is ${mark === 'r' ? 'rejected' : 'accepted'} yet.`;
      const typed = `batcher plan ${quotedForShell(D.manifest)} --redo-from redo.txt   # what it costs\nbatcher run ${quotedForShell(D.manifest)} --redo-from redo.txt`;
      command.textContent = mark === 'r' ? typed : '';
      command.hidden = mark !== 'r';
      save.disabled = copy.disabled = !found.length;
      clear.disabled = !marks.size;
    };
    close.addEventListener('click', () => list.close());
    which.addEventListener('change', () => { mark = which.value; fill(); });
    save.addEventListener('click', () => {
      const url = URL.createObjectURL(new Blob([area.value], { type: 'text/plain;charset=utf-8' }));
      make('a', { href: url, download: name() }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10000);
    });
    copy.addEventListener('click', async () => {
      area.select();
      try { await navigator.clipboard.writeText(area.value); } catch { document.execCommand('copy'); }
      copy.textContent = 'Copied';
    });
    clear.addEventListener('click', () => {
      if (!confirm('Forget every mark of this batch in this browser?')) return;
      for (const key of marks.keys()) try { localStorage.removeItem(PREFIX + key); } catch { lost(); }
      marks.clear();
      tellMarks();
      for (const [place, element] of shown) paintMark(element, seen[place]);
      fill();
    });
    list.replaceChildren(close, make('h3', { id: 'list-name' }, 'Marks'), make('div', { class: 'foot' }, which, told), area,
      make('div', { class: 'foot' }, save, copy, clear), command);
    fill();
    list.showModal();
  }
  list.addEventListener('click', (event) => { if (event.target === list) list.close(); });
  $('export').addEventListener('click', exported);

  $('reset').addEventListener('click', () => {
    for (const field of [text, flow, value, member]) field.value = '';
    [wantedState, wantedMark] = [-1, '*'];
    press($('states'), -1);
    press($('marks'), '*');
    sift();
    focusOn(0);
  });
  text.addEventListener('input', sift);
  flow.addEventListener('input', () => { suggestFlows(); sift(); });
  flow.addEventListener('focus', suggestFlows);
  value.addEventListener('input', () => { suggestValues(); sift(); });
  value.addEventListener('focus', suggestValues);
  member.addEventListener('change', () => { suggestValues(); sift(); });
  addEventListener('scroll', draw, { passive: true });
  let old = 0;
  addEventListener('resize', () => {
    if (root.clientWidth === old) return draw(); // a phone's address bar comes and goes
    old = root.clientWidth;
    const place = current;
    measure();
    redraw();
    turnTo(Math.min(place, seen.length - 1));
  });

  document.querySelector('.tools').hidden = false;
  root.hidden = false;
  if (!N) $('told').textContent = 'Nothing was collected yet.';
  measure();
  old = root.clientWidth;
  redraw();
  if (N) tell();
  tellMarks();
  requestAnimationFrame(() => performance.mark('ready'));
})();
