// The socket's own rules: answers find their requests, limits hold, and nothing odd breaks it.

import assert from 'node:assert/strict';
import test from 'node:test';
import { type Listener, NoAnswer, Protoo, Refused } from '../src/protoo';
import { FakeSocket, settle } from './cluster';

const quiet: Listener = { request: async () => ({}), notification: () => {} };

function connect(listener: Listener = quiet): { protoo: Protoo; socket: FakeSocket } {
  const socket = new FakeSocket('ws://n/');
  const protoo = new Protoo('ws://n/', () => socket, listener);
  socket.accept();
  return { protoo, socket };
}

test('answers find their requests in any order', async () => {
  const { protoo, socket } = connect();
  const first = protoo.request('a');
  const second = protoo.request('b', { x: 1 });
  const [a, b] = socket.sent;
  assert.deepEqual([a?.method, a?.data, b?.method, b?.data], ['a', {}, 'b', { x: 1 }]);
  socket.frame({ response: true, id: b?.id, ok: true, data: { of: 'b' } });
  socket.frame({ response: true, id: a?.id, ok: false, errorCode: 404, errorReason: 'none' });
  assert.deepEqual(await second, { of: 'b' });
  await assert.rejects(first, (error: Refused) => error instanceof Refused && error.code === 404);
});

test('an answer without data reads as an empty object', async () => {
  const { protoo, socket } = connect();
  const asked = protoo.request('a');
  socket.frame({ response: true, id: socket.sent[0]?.id, ok: true });
  assert.deepEqual(await asked, {});
});

test('what is asked of the client is answered, and a failure is a refusal', async () => {
  const request: Listener['request'] = async (method) => {
    if (method === 'bad') throw new Error('cannot');
    return { got: method };
  };
  const { socket } = connect({ ...quiet, request });
  socket.frame({ request: true, id: 1, method: 'good' }).frame({ request: true, id: 2, method: 'bad' });
  await settle();
  assert.deepEqual(socket.sent, [
    { response: true, id: 1, ok: true, data: { got: 'good' } },
    { response: true, id: 2, ok: false, errorCode: 500, errorReason: 'cannot' },
  ]);
});

test('a closed socket ends what waits on it, and tells with what', async () => {
  const { protoo, socket } = connect();
  const asked = protoo.request('a');
  socket.end(4503, 'node_leaving');
  await assert.rejects(asked, NoAnswer);
  assert.deepEqual(await protoo.closed, { code: 4503, reason: 'node_leaving' });
  await assert.rejects(protoo.request('b'), NoAnswer);
});

test('a socket that never opened rejects, once it is closed', async () => {
  const socket = new FakeSocket('ws://n/');
  const protoo = new Protoo('ws://n/', () => socket, quiet);
  socket.end(1006);
  await assert.rejects(protoo.opened, NoAnswer);
});

test('an unanswered request ends in time', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { protoo } = connect();
  const asked = protoo.request('a');
  context.mock.timers.tick(10_000);
  await assert.rejects(asked, /no answer in 10000 ms/);
});

test('open requests are bounded', async () => {
  const { protoo, socket } = connect();
  const asked = Array.from({ length: 65 }, () => protoo.request('a'));
  assert.equal(socket.sent.length, 64);
  await assert.rejects(asked[64] ?? Promise.resolve(), /64 requests are unanswered/);
  protoo.close();
  assert.equal((await Promise.allSettled(asked)).filter(({ status }) => status === 'rejected').length, 65);
});

test('frames that are none are ignored', () => {
  const heard: string[] = [];
  const { socket } = connect({ ...quiet, notification: (method) => heard.push(method) });
  for (const frame of ['', '[', '7', 'null', '[]', '{}', { response: true, id: 99, ok: true }]) socket.frame(frame);
  socket.tell('still here', {});
  assert.deepEqual(heard, ['still here']);
});
