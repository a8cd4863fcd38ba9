// An answer as it grows: its text, and each token's probability as the colour behind it.

// Lowest probability of each colour, p4 to p0.
const CLASSES = [[0.9, 'p4'], [0.5, 'p3'], [0.2, 'p2'], [0.05, 'p1'], [0, 'p0']];

function colourOf(tokens) {
  const least = Math.exp(Math.min(...tokens.map((token) => token.logprob)));
  return CLASSES.find(([bound]) => least >= bound)?.[1] ?? 'p0';
}

// Cuts `text` into pieces with the tokens they come from. Text and tokens of an event are not
// always the same: a character may take several tokens, and the beginning of a stop string is held
// back until it is none. Tokens are matched from both ends; what is left between is one piece.
export function pieces(text, tokens) {
  const front = [];
  const back = [];
  let begin = 0;
  let end = text.length;
  let first = 0;
  let last = tokens.length;
  const fits = (token) => token.text !== '' && !token.text.includes('\ufffd');
  while (first < last && fits(tokens[first]) && text.startsWith(tokens[first].text, begin)) {
    front.push({text: tokens[first].text, tokens: [tokens[first]]});
    begin += tokens[first++].text.length;
  }
  while (first < last && fits(tokens[last - 1]) &&
         end - tokens[last - 1].text.length >= begin &&
         text.slice(begin, end).endsWith(tokens[last - 1].text)) {
    back.unshift({text: tokens[last - 1].text, tokens: [tokens[last - 1]]});
    end -= tokens[--last].text.length;
  }
  if (begin < end) {
    front.push({text: text.slice(begin, end), tokens: tokens.slice(first, last)});
  } else if (first < last) {
    // Tokens without text: with the next one, or at least with what is there.
    const neighbour = back[0] ?? front[front.length - 1];
    if (neighbour) neighbour.tokens = [...neighbour.tokens, ...tokens.slice(first, last)];
  }
  return [...front, ...back];
}

// Fills `element`. Calls `onToken(tokens)` for the token that is pointed at, focused or tapped.
//
// One token is in the tab order; the arrow keys, Home and End move between them.
export class Answer {
  constructor(element, onToken) {
    this.element = element;
    this.text = '';
    this.numTokens = 0;
    this.onToken = onToken;
    this.tokensOf = new Map();  // span -> its tokens
    this.waiting = [];          // tokens whose text has not come yet
    this.queue = [];            // what the next frame appends
    element.classList.add('answer');
    element.setAttribute('role', 'group');
    element.setAttribute('aria-label', 'Answer, token by token; arrow keys move');
    element.addEventListener('pointerover', (event) => this.show(event.target));
    element.addEventListener('focusin', (event) => this.choose(event.target));
    element.addEventListener('click', (event) => this.tokensOf.has(event.target) && event.target.focus());
    element.addEventListener('keydown', (event) => this.move(event));
    // Until the pointer leaves, what it points at; then what was chosen before.
    element.addEventListener('pointerleave', () => this.show(this.chosen));
  }

  // `tokens`: [{text, logprob, top: [[text, logprob], ...]}]
  add(text, tokens) {
    this.text += text;
    this.numTokens += tokens.length;
    this.waiting.push(...tokens);
    if (text === '') return;
    this.queue.push(...pieces(text, this.waiting));
    this.waiting = [];
    this.frame ??= requestAnimationFrame(() => this.flush());
  }

  flush() {
    if (this.frame !== undefined) cancelAnimationFrame(this.frame);
    this.frame = undefined;
    const spans = document.createDocumentFragment();
    for (const piece of this.queue) {
      const span = document.createElement('span');
      span.textContent = piece.text;
      if (piece.tokens.length > 0) {
        span.className = `token ${colourOf(piece.tokens)}`;
        span.tabIndex = this.tokensOf.size === 0 ? 0 : -1;
        this.tokensOf.set(span, piece.tokens);
      }
      spans.append(span);
    }
    this.queue = [];
    this.element.append(spans);
  }

  show(span) {
    const tokens = this.tokensOf.get(span);
    if (tokens) this.onToken(tokens);
  }

  choose(span) {
    if (!this.tokensOf.has(span)) return;
    for (const other of this.element.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
    span.tabIndex = 0;
    this.chosen = span;
    this.show(span);
  }

  move(event) {
    const spans = [...this.tokensOf.keys()];
    const at = spans.indexOf(event.target);
    const to = {
      ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + 10, ArrowUp: at - 10,
      Home: 0, End: spans.length - 1,
    }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    spans[Math.min(Math.max(to, 0), spans.length - 1)].focus();
  }
}

export function percent(logprob) {
  const value = 100 * Math.exp(logprob);
  if (value > 0 && value < 0.01) return '< 0.01 %';
  return `${value >= 99.95 ? value.toFixed(0) : value.toPrecision(value < 1 ? 1 : 3)} %`;
}

// White space as signs one can see.
function visible(text) {
  return text.replaceAll(' ', '␣').replaceAll('\n', '⏎').replaceAll('\t', '⇥') || '(no text)';
}

function row(name, logprob, isChosen) {
  const line = document.createElement('tr');
  if (isChosen) line.className = 'chosen';
  const title = document.createElement('th');
  title.scope = 'row';
  title.textContent = visible(name);
  const value = document.createElement('td');
  value.textContent = percent(logprob);
  const bar = document.createElement('td');
  bar.className = 'share';
  const fill = document.createElement('span');
  fill.style.width = `${(100 * Math.exp(logprob)).toFixed(2)}%`;
  bar.append(fill);
  line.append(title, value, bar);
  return line;
}

// Shows in `element` what else was likely where `tokens` were drawn.
export function showAlternatives(element, tokens) {
  const tables = tokens.slice(0, 8).map((token) => {
    const table = document.createElement('table');
    const caption = document.createElement('caption');
    caption.append(document.createElement('b'), ` ${percent(token.logprob)}`);
    caption.firstChild.textContent = visible(token.text);
    const top = [...token.top].sort((a, b) => b[1] - a[1]);
    if (!top.some(([text]) => text === token.text)) top.push([token.text, token.logprob]);
    table.append(caption, ...top.map(([text, logprob]) => row(text, logprob, text === token.text)));
    return table;
  });
  element.replaceChildren(...tables);
}
