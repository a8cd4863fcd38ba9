// Writes a request from the form, runs it, and shows the answer as it comes.

import {ApiError, postForEvents} from './api.js';
import {Answer, showAlternatives} from './answer.js';

const NUM_ALTERNATIVES = 5;
const NUMBERS = ['max_tokens', 'temperature', 'top_p', 'top_k', 'min_p', 'presence_penalty',
                 'frequency_penalty', 'repetition_penalty'];

const $ = (id) => document.getElementById(id);
const form = $('form');

class FieldError extends Error {
  constructor(param, message) {
    super(message);
    this.param = param;
  }
}

// The number fields and stop strings. An empty field leaves the server's default; whether a value
// is in its range is for the server to say.
function sampling() {
  const body = {};
  for (const name of NUMBERS) {
    const input = form.elements[name];
    if (input.validity.badInput) throw new FieldError(name, `${name} is not a number`);
    if (input.value !== '') body[name] = Number(input.value);
  }
  const stop = form.elements.stop.value.split('\n').filter((line) => line !== '');
  if (stop.length > 0) body.stop = stop.map((line) => line.replaceAll('\\n', '\n'));
  return body;
}

// As text: a seed has 64 bits, more than a JavaScript number holds. The page draws it itself, so
// that an answer that was stopped can be had again too.
function seed() {
  const text = form.elements.seed.value.trim();
  if (text === '') return crypto.getRandomValues(new BigUint64Array(1))[0].toString();
  if (!/^\d+$/.test(text)) throw new FieldError('seed', `seed is "${text}", not a whole number`);
  return BigInt(text).toString();
}

function completionTokens(logprobs) {
  return logprobs.tokens.map((text, i) => ({
    text,
    logprob: logprobs.token_logprobs[i],
    top: Object.entries(logprobs.top_logprobs[i] ?? {}),
  }));
}

function chatTokens(logprobs) {
  return logprobs.content.map((token) => ({
    text: token.token,
    logprob: token.logprob,
    top: token.top_logprobs.map((other) => [other.token, other.logprob]),
  }));
}

const REASONS = {
  stop: 'ended by itself', length: 'reached max tokens', deadline: 'ran out of time', stopped: 'stopped',
};

export class Playground {
  constructor() {
    this.models = [];
    this.messages = [];  // of the chat: {role, content}
    this.running = null;  // AbortController
    this.last = null;    // {request, answer}, what "again" repeats
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.submit();
    });
    form.addEventListener('input', () => this.summarize());
    form.elements.model.addEventListener('change', () => this.chooseModel());
    for (const radio of form.elements.mode) radio.addEventListener('change', () => this.setMode());
    $('stop-button').addEventListener('click', () => this.running?.abort());
    $('clear').addEventListener('click', () => this.clear());
    $('again').addEventListener('click', () => this.again());
    $('copy').addEventListener('click', () => this.copy());
    $('input').addEventListener('keydown', (event) => {
      const sends = this.isChat() ? !event.shiftKey : event.ctrlKey || event.metaKey;
      if (event.key === 'Enter' && sends && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    document.addEventListener('keydown', (event) => event.key === 'Escape' && this.running?.abort());
    this.inspect = (tokens) => showAlternatives($('token'), tokens);
    this.hint = $('token').firstElementChild;
    $('settings').open = matchMedia('(min-width: 40em)').matches;
    this.summarize();
    this.setMode();
  }

  isChat() {
    return form.elements.mode.value === 'chat';
  }

  setModels(models) {
    this.models = models;
    const chosen = form.elements.model.value;
    form.elements.model.replaceChildren(...models.map((model) => new Option(model.id, model.id)));
    if (models.some((model) => model.id === chosen)) form.elements.model.value = chosen;
    this.chooseModel();
  }

  chooseModel() {
    const model = this.models.find((other) => other.id === form.elements.model.value);
    const canChat = model?.has_chat_template ?? false;
    const chat = [...form.elements.mode].find((radio) => radio.value === 'chat');
    chat.disabled = !canChat;
    $('no-chat').hidden = !model || canChat;
    if (!canChat && this.isChat()) {
      form.elements.mode.value = 'prompt';
      this.setMode();
    }
  }

  setMode() {
    const isChat = this.isChat();
    $('system-field').hidden = $('clear').hidden = !isChat;
    $('input-label').textContent = isChat ? 'Message' : 'Prompt';
    $('send').textContent = isChat ? 'Send' : 'Generate';
    $('input-hint').textContent = isChat ? 'Enter sends, Shift+Enter is a new line' : 'Ctrl+Enter; Esc stops';
    $('input').rows = isChat ? 2 : 4;
    // In the order in which it is read: a conversation stands above what is said next.
    if (isChat) {
      $('composer').before($('answers'), $('reader'));
    } else {
      form.after($('answers'), $('progress'), $('reader'));
    }
    this.clear();
  }

  clear() {
    this.running?.abort();
    this.messages = [];
    this.last = null;
    $('answers').replaceChildren();
    $('reader').hidden = true;
    this.complain(null);
  }

  summarize() {
    const changed = [...form.querySelectorAll('#settings input, #settings textarea')]
      .filter((input) => input.value !== '' && input.value !== input.dataset.off)
      .map((input) => `${input.name.replaceAll('_', ' ')} ${input.value.replaceAll('\n', ', ')}`);
    $('settings-summary').textContent = changed.join(' · ');
  }

  // What is sent, but for the seed.
  write(prompt) {
    const body = {model: form.elements.model.value, ...sampling(), stream: true,
                  stream_options: {include_usage: true}};
    if (!this.isChat()) return {...body, prompt, logprobs: NUM_ALTERNATIVES};
    const system = $('system').value.trim();
    const opening = system === '' ? [] : [{role: 'system', content: system}];
    return {...body, messages: [...opening, ...this.messages, {role: 'user', content: prompt}],
            logprobs: true, top_logprobs: NUM_ALTERNATIVES};
  }

  submit() {
    if (this.running) return;
    this.complain(null);
    let request;
    try {
      const prompt = $('input').value;
      const body = this.write(prompt);
      request = {
        path: this.isChat() ? '/v1/chat/completions' : '/v1/completions',
        prompt,
        seed: seed(),
        body,
      };
    } catch (error) {
      return this.complain(error);
    }
    if (this.isChat()) {
      this.turn('You', 'turn user').textContent = request.prompt;
      this.messages.push({role: 'user', content: request.prompt});
      $('input').value = '';
    } else {
      $('answers').replaceChildren();
    }
    return this.run(request, this.turn(this.isChat() ? form.elements.model.value : '', 'turn'));
  }

  // The same request once more, in the same place.
  again() {
    if (this.running || !this.last) return;
    this.complain(null);
    const {request, answer} = this.last;
    if (this.isChat()) this.messages.pop();
    const element = document.createElement('div');
    answer.element.replaceWith(element);
    this.run(request, element, answer);
  }

  turn(name, className) {
    const turn = document.createElement('div');
    turn.className = className;
    if (name) {
      const title = document.createElement('p');
      title.className = 'who';
      title.textContent = name;
      turn.append(title);
    }
    const content = document.createElement('div');
    content.className = 'answer';
    turn.append(content);
    $('answers').append(turn);
    return content;
  }

  async run(request, element, before) {
    const controller = new AbortController();
    const answer = new Answer(element, this.inspect);
    const started = performance.now();
    const run = {request, answer, reason: '', seed: request.seed, started, before, previous: this.last};
    this.last = run;
    this.setRunning(controller);
    try {
      const text = `{"seed":${request.seed},${JSON.stringify(request.body).slice(1)}`;
      for await (const data of postForEvents(request.path, text, controller.signal)) {
        this.receive(run, data);
      }
    } catch (error) {
      run.reason = controller.signal.aborted ? 'stopped' : 'failed';
      if (!controller.signal.aborted) this.complain(error);
    }
    answer.flush();
    run.ended = performance.now();
    this.finish(run, controller);
  }

  receive(run, data) {
    const event = JSON.parse(data);
    if (event.error) throw new ApiError(event.error.code, event.error.message, event.error.param);
    if (event.sluice) {
      run.seed = /"sluice":\{"seed":(\d+)/.exec(data)?.[1] ?? run.seed;
      run.profile = event.sluice.profile;
      run.usage = event.usage;
    }
    run.profile ??= event.system_fingerprint?.split(':')[0];
    const choice = event.choices[0];
    if (!choice) return;
    const text = choice.text ?? choice.delta.content ?? '';
    const tokens = !choice.logprobs ? [] :
      choice.logprobs.content ? chatTokens(choice.logprobs) : completionTokens(choice.logprobs);
    if (tokens.length > 0) run.first ??= performance.now();
    if (choice.finish_reason) run.reason = choice.finish_reason;
    const box = $('answers');
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    run.answer.add(text, tokens);
    if (atEnd) box.scrollTop = box.scrollHeight;
  }

  setRunning(controller) {
    this.running = controller;
    const isRunning = controller !== null;
    const hadFocus = document.activeElement;
    $('send').disabled = isRunning;
    $('stop-button').disabled = !isRunning;
    $('again').disabled = isRunning;
    $('answers').setAttribute('aria-busy', String(isRunning));
    if (isRunning) {
      $('progress').textContent = 'Generating';
      $('compared').textContent = '';
      $('compared').className = '';
      $('token').replaceChildren(this.hint);
    }
    $('reader').classList.toggle('waiting', isRunning);  // keeps its place
    // A button that goes away hands its focus to the one that takes its place.
    if (isRunning && hadFocus === $('send')) $('stop-button').focus();
    if (isRunning && hadFocus === $('again')) $('stop-button').focus();
    if (!isRunning && hadFocus === $('stop-button')) $('send').focus();
  }

  finish(run, controller) {
    // A conversation that was cleared meanwhile has no place for it.
    const isShown = run.answer.element.isConnected;
    if (this.running === controller) this.setRunning(null);
    if (!isShown) return;
    $('progress').textContent = `${run.answer.numTokens} tokens, ${REASONS[run.reason] ?? run.reason}`;
    if (run.reason === 'failed' && run.answer.numTokens === 0) {
      this.takeBack(run);
      return;
    }
    if (this.isChat()) this.messages.push({role: 'assistant', content: run.answer.text});
    $('reader').hidden = false;
    this.showFacts(run);
    if (run.before) this.compare(run.before.text, run);
  }

  // Nothing came of it: everything is as before, and a chat's message is there to send again.
  takeBack(run) {
    this.last = run.previous;
    if (run.before) {
      run.answer.element.replaceWith(run.before.element);
      if (this.isChat()) this.messages.push({role: 'assistant', content: run.before.text});
      return;
    }
    run.answer.element.closest('.turn').remove();
    if (this.isChat()) {
      this.messages.pop();
      $('answers').lastElementChild.remove();
      $('input').value = run.request.prompt;
    } else {
      this.last = null;  // what it replaced is gone
    }
    $('reader').hidden = this.last === null;
  }

  showFacts(run) {
    const seconds = (run.ended - (run.first ?? run.ended)) / 1000;
    const facts = [['Tokens', String(run.answer.numTokens)], ['End', REASONS[run.reason] ?? run.reason]];
    if (run.usage) {
      const cached = run.usage.prompt_tokens_details.cached_tokens;
      facts.push(['Prompt', `${run.usage.prompt_tokens}${cached ? `, ${cached} from the cache` : ''}`]);
    }
    if (run.first) facts.push(['First token', `${(run.first - run.started).toFixed(0)} ms`]);
    if (run.answer.numTokens > 1 && seconds > 0) {
      facts.push(['Rate', `${((run.answer.numTokens - 1) / seconds).toFixed(1)}/s`]);
    }
    facts.push(['Seed', run.seed], ['Profile', run.profile ?? 'unknown']);
    $('facts').replaceChildren(...facts.map(([name, value]) => {
      const fact = document.createElement('div');
      fact.append(document.createElement('dt'), document.createElement('dd'));
      fact.firstChild.textContent = name;
      fact.lastChild.textContent = value;
      fact.lastChild.id = `fact-${name.toLowerCase().replace(' ', '-')}`;
      return fact;
    }));
  }

  // An answer that was stopped is compared as far as both go.
  compare(text, run) {
    const shared = Math.min(text.length, run.answer.text.length);
    const isSame = text.slice(0, shared) === run.answer.text.slice(0, shared);
    $('compared').textContent = isSame ? 'The same text as before' : 'Another text than before';
    $('compared').className = isSame ? 'good' : 'bad';
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.last.answer.text);
      $('compared').className = '';
      $('compared').textContent = 'Copied';
    } catch {
      getSelection().selectAllChildren(this.last.answer.element);  // not over plain HTTP from afar
    }
  }

  complain(error) {
    for (const input of form.querySelectorAll('[aria-invalid]')) input.removeAttribute('aria-invalid');
    $('problem').hidden = error === null;
    if (error === null) return;
    const isOurs = error instanceof ApiError || error instanceof FieldError;
    $('problem').textContent = isOurs ? error.message : 'The server does not answer.';
    const field = {prompt: $('input'), messages: $('input')}[error.param] ?? form.elements[error.param];
    if (!(field instanceof HTMLElement)) return;
    field.setAttribute('aria-invalid', 'true');
    if (field.closest('#settings')) $('settings').open = true;
    field.focus();
  }
}
