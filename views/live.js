// Keeps the status page up to date: morphs what the server has rendered into what is there, so that focus, scroll
// position, open details and half-typed words stay.
const RETRY = 5_000;
/** The server says something every second; after so long without a word the stream counts as lost. */
const SILENCE = 6_000;

const note = document.getElementById('live');
const said = document.getElementById('said');
let last = performance.now();
let source = null;
let lost = false;
let filled = 0;
let headline = document.getElementById('headline')?.textContent;

// Times in the reader's own zone.
const FORMS = {
  clock: { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' },
  minute: { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' },
  day: { month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' },
};
const formats = Object.fromEntries(Object.entries(FORMS).map(([k, v]) => [k, new Intl.DateTimeFormat('en-GB', v)]));
const exact = new Intl.DateTimeFormat('en-GB', { dateStyle: 'full', timeStyle: 'long' });

function localize(root) {
  for (const time of root.querySelectorAll('time')) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.textContent = formats[time.dataset.form ?? 'day'].format(at);
    time.title = `${exact.format(at)} · ${time.dateTime}`;
  }
  for (const text of root.querySelectorAll('text[data-time]')) {
    text.textContent = formats.minute.format(new Date(text.dataset.time));
  }
}

/** What names a node among its siblings; without a name its kind and place do. */
function keyOf(node) {
  return node.nodeType === 1 ? node.id || node.dataset?.key || '' : '';
}

function morphChildren(from, to) {
  const keyed = new Map();
  for (const child of from.children) if (keyOf(child)) keyed.set(keyOf(child), child);
  let at = from.firstChild;
  for (const next of [...to.childNodes]) {
    const key = keyOf(next);
    let match = key ? keyed.get(key) : at;
    if (!key) while (match && keyOf(match)) match = match.nextSibling;
    if (match && match.nodeName === next.nodeName) {
      if (match === at) at = at.nextSibling;
      else from.insertBefore(match, at);
      morph(match, next);
      keyed.delete(key);
    } else from.insertBefore(next, at);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function morph(from, to) {
  if (from.nodeType !== 1) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  if (from.isEqualNode(to) || 'kept' in from.dataset) return;
  // Whether details are open is the reader's choice.
  for (const { name, value } of [...to.attributes]) {
    if (name !== 'open' && from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const { name } of [...from.attributes])
    if (name !== 'open' && !to.hasAttribute(name)) from.removeAttribute(name);
  morphChildren(from, to);
}

function show(sections) {
  for (const [id, markup] of Object.entries(sections)) {
    const section = document.getElementById(id);
    if (!section) continue;
    const next = document.createElement('section');
    next.innerHTML = markup;
    localize(next);
    morphChildren(section, next);
  }
  if (performance.now() - filled > RETRY) void fill();
  const now = document.getElementById('headline')?.textContent;
  // A screen reader hears of what matters only, not of every number.
  if (now !== headline) said.textContent = headline = now;
}

async function load(path) {
  const answer = await fetch(path, { headers: { accept: 'text/html' } });
  if (answer.status === 401) location.reload();
  if (!answer.ok) throw new Error(answer.statusText);
  return new DOMParser().parseFromString(await answer.text(), 'text/html');
}

/** Tables that are large and seldom wanted come when they are opened, and are kept up to date as long as they are. */
async function fill() {
  const open = document.querySelectorAll('details[data-part][open]');
  if (open.length === 0) return;
  filled = performance.now();
  try {
    const page = await load('/numbers');
    localize(page);
    for (const each of open) {
      morphChildren(each.querySelector('[data-kept]'), page.getElementById(each.dataset.part));
    }
  } catch {
    // What is there stays: that the connection is lost is told already.
  }
}

function tell(text, bad) {
  note.hidden = false;
  note.className = bad ? 'lost' : '';
  if (note.textContent !== text) note.textContent = text;
  if (bad !== lost) said.textContent = text;
  lost = bad;
}

/** Without a stream (too many pages, or something between that does not let it through): the page as a whole. */
async function poll() {
  try {
    const page = await load('/');
    show(Object.fromEntries([...page.querySelectorAll('main > section[id]')].map((each) => [each.id, each.innerHTML])));
    tell('Refreshed every 5 s', false);
  } catch {
    tell(`Connection lost: as of ${formats.clock.format(Date.now() - (performance.now() - last))}, trying again`, true);
  }
}

function open() {
  source?.close();
  source = new EventSource('/events');
  const heard = () => {
    last = performance.now();
    tell('Live', false);
  };
  source.addEventListener('sections', (event) => {
    show(JSON.parse(event.data));
    heard();
  });
  source.addEventListener('tick', heard);
  // Refused, not broken: after a logout, or because there are too many.
  source.addEventListener('error', () => {
    if (source.readyState === EventSource.CLOSED) void poll();
  });
}

localize(document);
document.addEventListener('toggle', () => void fill(), true);
if ('live' in document.body.dataset) {
  open();
  setInterval(() => {
    if (performance.now() - last < SILENCE) return;
    void poll();
    open();
  }, RETRY);
}
