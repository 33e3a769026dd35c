// Addresses, pauses and error answers of the lookup.

import assert from 'node:assert/strict';
import test from 'node:test';
import { explain, LookupError, lookup, lookupUrl, type Problem, pauseMs, signalingUrl } from '../src/lookup';

const question = { scheduler: 'http://s:7400/', namespace: 'acme', room: 'a/b ü' };
const answer = (body: string, status: number, headers = {}) =>
  lookup(question, async () => new Response(body, { status, headers }), new AbortController().signal);

async function failure(asked: Promise<unknown>): Promise<LookupError> {
  const error = await asked.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof LookupError);
  return error;
}

test('rooms are percent-encoded in the path, and a path before it is kept', () => {
  assert.equal(lookupUrl(question), 'http://s:7400/v1/namespaces/acme/rooms/a%2Fb%20%C3%BC/lookup');
  assert.equal(lookupUrl({ ...question, scheduler: 'https://h/roost/' }).slice(0, 21), 'https://h/roost/v1/na');
  for (const scheduler of ['', 's:7400', 'ws://s'])
    assert.throws(() => lookupUrl({ ...question, scheduler }), LookupError);
});

test('a signaling address keeps the query that it has', () => {
  assert.equal(signalingUrl('https://n/x?a=1', { roomId: 'r s', ticket: '' }), 'wss://n/x?a=1&roomId=r+s');
});

test('pauses double up to 8 s, are spread over their upper half, and keep to what was asked for', () => {
  const at = (random: number) => [1, 2, 3, 6, 9].map((failures) => pauseMs(failures, 0, () => random));
  assert.deepEqual(at(0), [125, 250, 500, 4_000, 4_000]);
  assert.deepEqual(at(1), [250, 500, 1_000, 8_000, 8_000]);
  assert.equal(
    pauseMs(1, 3_000, () => 0),
    3_000,
  );
  assert.equal(
    pauseMs(1, 86_400_000, () => 1),
    37_500,
  );
});

test('only what may pass is tried again', async () => {
  const problem = (status: number, code: string, retryable: boolean) =>
    answer(JSON.stringify({ status, code, detail: '', title: 't', retryable }), status);
  assert.equal((await failure(problem(503, 'no_node', true))).retryable, true);
  assert.equal((await failure(problem(400, 'bad_id', false))).retryable, false);
  assert.equal((await failure(answer('<html>', 502))).retryable, true);
  assert.equal((await failure(answer('<html>', 404))).retryable, false);
  assert.equal((await failure(answer('{}', 200))).retryable, true);
  const network = lookup(question, () => Promise.reject(new TypeError('refused')), new AbortController().signal);
  assert.equal((await failure(network)).retryable, true);
});

test('Retry-After is read as seconds or as a date', async () => {
  assert.equal((await failure(answer('', 503, { 'retry-after': '3' }))).retryAfterMs, 3_000);
  assert.equal((await failure(answer('', 503, { 'retry-after': 'soon' }))).retryAfterMs, 0);
  const date = new Date(Date.now() + 5_000).toUTCString();
  const { retryAfterMs } = await failure(answer('', 503, { 'retry-after': date }));
  assert.ok(retryAfterMs > 2_000 && retryAfterMs <= 5_000);
});

test('a refusal names the reasons of the nodes', () => {
  const problem: Problem = { type: '', title: '', status: 503, code: 'no_node', detail: 'none left', retryable: true };
  const rejection_counts = [{ reason: 'mode', count: 2 }];
  assert.equal(explain({ ...problem, rejection_counts }), 'no_node: none left (mode ×2)');
  assert.equal(explain({ ...problem, rejections: [{ node: 'a', reason: 'mode' }] }), 'no_node: none left (a mode)');
});
