// The node's calls that the door needs (API.md, "Codes, passwords, recovery").

/** Why a call did not work. */
export class DoorError extends Error {
  constructor(code, message = '', wait = 0) {
    super(message);
    Object.assign(this, { code, wait });
  }
}

const TIMEOUT_MS = 60000; // a small board seals keys for seconds, others before us

export async function call(method, path, body) {
  let response;
  try {
    response = await fetch(`/v1${path}`, {
      method, credentials: 'same-origin', cache: 'no-store', redirect: 'error', signal: AbortSignal.timeout(TIMEOUT_MS),
      headers: { Accept: 'application/json', 'X-Outrider': '1', ...(body ? { 'Content-Type': 'application/json' } : {}) },
      body: body ? JSON.stringify(body) : undefined,
    });
  } catch (cause) {
    throw new DoorError('unreachable', String(cause));
  }
  const answer = response.status === 204 ? {} : await response.json().catch(() => ({}));
  if (!response.ok) throw new DoorError(String(answer.error?.code ?? response.status), String(answer.error?.message ?? ''), Number(response.headers.get('Retry-After')) || 0);
  return answer;
}
