// Puts the page together: the playground, the server's state, and the key that both may need.

import {access, apiKey, getJson, setApiKey} from './api.js';
import {Playground} from './playground.js';
import {Status} from './status.js';

const RETRY_MS = 2000;
const $ = (id) => document.getElementById(id);

const playground = new Playground();
const status = new Status();

async function start() {
  status.resume();
  try {
    playground.setModels((await getJson('/v1/models')).data);
    $('key-form').hidden = true;
    $('forget-key').hidden = apiKey() === '';
  } catch (error) {
    if (error.status !== 401) setTimeout(start, RETRY_MS);
  }
}

access.addEventListener('unauthorized', () => {
  $('key-message').textContent = apiKey() === '' ?
    'This server asks for an API key.' : 'The server does not accept this API key.';
  $('key-form').hidden = false;
  $('forget-key').hidden = true;
  if (document.activeElement === document.body) $('key').focus();
});

$('key-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const key = $('key').value.trim();
  if (!/^[\x21-\x7e]+$/.test(key)) {
    $('key-message').textContent = 'A key is letters, digits and signs, without blanks.';
    return;
  }
  setApiKey(key);
  $('key').value = '';
  start();
});

$('forget-key').addEventListener('click', () => {
  setApiKey('');
  start();
});

start();
