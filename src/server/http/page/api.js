// The server's own API. Everything the page shows comes through here.

const KEY_NAME = 'sluice-api-key';

// Dispatches 'unauthorized' when the server asks for a key, or for another one.
export const access = new EventTarget();

export function apiKey() {
  return sessionStorage.getItem(KEY_NAME) ?? '';
}

export function setApiKey(key) {
  if (key) {
    sessionStorage.setItem(KEY_NAME, key);
  } else {
    sessionStorage.removeItem(KEY_NAME);
  }
}

// What the server answered instead of what was asked for. `param` is the field it is about, or ''.
export class ApiError extends Error {
  constructor(status, message, param = '') {
    super(message);
    this.status = status;
    this.param = param;
  }
}

async function send(path, options = {}) {
  const headers = {...options.headers};
  if (apiKey()) headers.Authorization = `Bearer ${apiKey()}`;
  const response = await fetch(path, {...options, headers, cache: 'no-store'});
  if (response.ok) return response;
  if (response.status === 401) access.dispatchEvent(new Event('unauthorized'));
  const error = await response.json().then((body) => body.error, () => undefined);
  throw new ApiError(response.status, error?.message ?? `the server answered ${response.status}`,
                     error?.param ?? '');
}

export async function getJson(path) {
  return (await send(path)).json();
}

// Posts `body` (JSON text) and yields the payload of each server-sent event, as text, up to
// [DONE]. Ending the loop, or `signal`, closes the connection, which cancels the request.
export async function* postForEvents(path, body, signal) {
  const response = await send(path, {
    method: 'POST',
    headers: {'Content-Type': 'application/json'},
    body,
    signal,
  });
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  let buffer = '';
  try {
    for (;;) {
      const {done, value} = await reader.read();
      if (done) throw new ApiError(0, 'the server closed the connection before the end');
      buffer += decoder.decode(value, {stream: true});
      const events = buffer.split('\n\n');
      buffer = events.pop();
      for (const event of events) {
        const data = event.replace(/^data: /, '');
        if (data === '[DONE]') return;
        yield data;
      }
    }
  } finally {
    reader.cancel().catch(() => {});  // it has ended already, or failed
  }
}
