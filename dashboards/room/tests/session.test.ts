// The way into a room and back, against sockets and lookups that follow a script.

import assert from 'node:assert/strict';
import test from 'node:test';
import type { Protoo } from '../src/protoo';
import { judge, MOST_FAILURES } from '../src/session';
import { Cluster, FakeMember, type FakeSocket, placed, problem, type Script, settle } from './cluster';

const stay: Script = (socket) => void socket.accept();
const redirectTo =
  (location: string, node: string): Script =>
  (socket) =>
    socket.accept().tell('redirect', { location, node, epoch: 9, ticket: 't' }).end(4000, 'redirect');
const closeWith =
  (code: number, reason: string): Script =>
  (socket) =>
    socket.accept().end(code, reason);

test('a lookup leads to the node, with room, peer, namespace and ticket in the address', async () => {
  const cluster = new Cluster([stay]);
  const session = cluster.session();
  const ended = session.run();
  await settle();
  assert.deepEqual(cluster.lookups, ['http://s1/v1/namespaces/default/rooms/a%20b/lookup']);
  const url = new URL(cluster.sockets[0]?.url ?? '');
  assert.equal(url.host + url.pathname, 'fra-1/signaling');
  assert.deepEqual(Object.fromEntries(url.searchParams), {
    roomId: 'a b',
    peerId: 'p1',
    namespace: 'default',
    redirect: 'true',
    ticket: 't.t.t',
  });
  const { state, node, region, epoch, outcome, connections } = session.status;
  assert.deepEqual(
    [state, node, region, epoch, outcome, connections],
    ['joined', 'fra-1', 'eu/central', 7, 'placed', 1],
  );
  session.leave();
  assert.equal((await ended).why, 'left');
  assert.deepEqual(cluster.states(), ['looking_up', 'connecting', 'joined', 'ended']);
  assert.equal(cluster.sockets[0]?.closedWith, 1000);
});

test('a redirect is followed at once, without a pause or a second lookup', async () => {
  const cluster = new Cluster([redirectTo('ws://iad-1/?roomId=a&redirects=1', 'iad-1'), stay]);
  const session = cluster.session();
  const ended = session.run();
  await settle();
  assert.equal(cluster.sockets[1]?.url, 'ws://iad-1/?roomId=a&redirects=1');
  assert.equal(cluster.lookups.length, 1);
  assert.deepEqual(cluster.pauses, []);
  const { node, region, epoch, redirects, why } = session.status;
  assert.deepEqual([node, region, epoch, redirects], ['iad-1', undefined, 9, 1]);
  assert.equal(why, 'lookup: placed, redirected by fra-1');
  session.leave();
  await ended;
});

test('a redirect does not wait for the close that follows it', async () => {
  const silent: Script = (socket) => void socket.accept().tell('redirect', { location: 'ws://iad-1/', node: 'iad-1' });
  const cluster = new Cluster([silent, stay]);
  const session = cluster.session({ kind: 'socket', url: 'http://any:7400/' });
  const ended = session.run();
  await settle();
  assert.deepEqual(
    cluster.sockets.map(({ url }) => new URL(url).host),
    ['any:7400', 'iad-1'],
  );
  assert.equal(new URL(cluster.sockets[0]?.url ?? '').protocol, 'ws:');
  assert.deepEqual(cluster.lookups, []);
  session.leave();
  await ended;
});

test('who comes straight to a node learns from it where that is', async () => {
  const place = { version: 'mediasoup', node: 'fra-1', region: 'eu/central', epoch: 7 };
  const cluster = new Cluster([(socket) => void socket.accept().tell('mediasoup-version', place)]);
  const session = cluster.session({ kind: 'socket', url: 'ws://fra-1/' });
  const ended = session.run();
  await settle();
  const { state, node, region, epoch } = session.status;
  assert.deepEqual([state, node, region, epoch], ['joined', 'fra-1', 'eu/central', 7]);
  session.leave();
  await ended;
});

test('a loop of redirects ends after the third', async () => {
  const cluster = new Cluster([redirectTo('ws://round/', 'round')]);
  const { state, why } = await cluster.session().run();
  assert.equal(state, 'ended');
  assert.equal(why, 'redirected 4 times without arriving');
  assert.equal(cluster.sockets.length, 4);
});

test('a redirect out of a joined room begins a new count', async () => {
  let moves = 0;
  const move: Script = (socket) => {
    socket.accept();
    setImmediate(() => {
      moves += 1;
      if (moves <= 5) socket.tell('redirect', { location: `ws://n${moves}/`, node: `n${moves}` }).end(4000, 'redirect');
    });
  };
  const cluster = new Cluster([move]);
  const session = cluster.session();
  const ended = session.run();
  await settle();
  const { state, node, connections, why } = session.status;
  assert.deepEqual([state, node, connections, why], ['joined', 'n5', 6, 'moved by n4']);
  session.leave();
  await ended;
});

test('a redirect to something that is no WebSocket is not followed', async () => {
  const cluster = new Cluster([redirectTo('javascript:alert(1)', 'x')]);
  const { state, why } = await cluster.session().run();
  assert.equal(state, 'ended');
  assert.match(why, /expected a ws or wss URL/);
  assert.equal(cluster.sockets.length, 1);
});

for (const [code, reason] of [
  [4503, 'node_leaving'],
  [4429, 'rate_limited'],
  [1006, ''],
  [1001, 'going away'],
  [4000, 'redirect'],
] as const) {
  test(`a close with ${code} ${reason} leads to a new lookup, soon and once`, async () => {
    let socket: FakeSocket | undefined;
    const keep: Script = (opened) => {
      socket = opened.accept();
    };
    const cluster = new Cluster([keep, stay], [placed('fra-1'), placed('fra-2', 'existing')]);
    const session = cluster.session();
    const ended = session.run();
    await settle();
    cluster.now += 60_000;
    socket?.end(code, reason);
    await settle();
    assert.equal(cluster.lookups.length, 2);
    assert.deepEqual(cluster.pauses, [100]);
    assert.deepEqual([session.status.node, session.status.connections], ['fra-2', 2]);
    session.leave();
    await ended;
    const way = ['looking_up', 'connecting', 'joined'];
    assert.deepEqual(cluster.states(), [...way, 'returning', ...way, 'ended']);
  });
}

for (const [code, reason, said] of [
  [4000, 'replaced', 'replaced: the same participant came in again elsewhere'],
  [4000, 'room_closed', 'room_closed: the room was closed'],
  [4000, '', 'closed with 4000'],
  [4401, 'ticket_invalid', 'closed with 4401 ticket_invalid'],
  [1009, 'frame too long', 'closed with 1009 frame too long'],
] as const) {
  test(`a close with ${code} ${reason} is final`, async () => {
    const cluster = new Cluster([closeWith(code, reason)]);
    const { state, why } = await cluster.session().run();
    assert.equal(state, 'ended');
    assert.equal(why, said);
    assert.equal(cluster.sockets.length, 1);
    assert.deepEqual(cluster.pauses, []);
  });
}

test('the problem of an error notification is what the participant is told', async () => {
  const { body } = problem('room_full', 503, true);
  const refuse: Script = (socket) =>
    socket
      .accept()
      .tell('error', body as object)
      .end(4000, 'room_full');
  const status = await new Cluster([refuse]).session().run();
  assert.equal(status.why, 'room_full: because of room_full');
  assert.equal(status.problem?.code, 'room_full');
});

test('a passing problem in a joined room leads back without waiting for the close, one at the door waits', async () => {
  const { body } = problem('node_leaving', 503, true);
  let told = 0;
  const tell: Script = (socket) => {
    socket.accept();
    setImmediate(() => {
      told += 1;
      if (told === 1) socket.tell('error', body as object);
    });
  };
  const cluster = new Cluster([tell]);
  const session = cluster.session();
  const ended = session.run();
  await settle();
  assert.deepEqual([session.status.connections, cluster.sockets[0]?.closedWith], [2, 4503]);
  session.leave();
  await ended;

  const refuse: Script = (socket) => void socket.accept().tell('error', body as object);
  const refused = new Cluster([refuse]);
  const waiting = refused.session(
    undefined,
    () =>
      new (class extends FakeMember {
        override join = () => new Promise<void>(() => {});
      })(),
  );
  void waiting.run();
  await settle();
  assert.deepEqual([waiting.status.state, refused.sockets.length], ['connecting', 1]);
});

test('a stale ticket is cured by a new lookup', () => {
  const stale = problem('ticket_stale', 401, false).body as never;
  const forged = problem('ticket_invalid', 401, false).body as never;
  const closed = { code: 4000, reason: '' };
  assert.equal(judge({ closed, problem: stale }).back, true);
  assert.equal(judge({ closed, problem: forged }).back, false);
});

test('pauses grow, and after a bounded number of failures the session ends', async () => {
  const cluster = new Cluster([closeWith(4503, 'node_leaving')]);
  const { state, why } = await cluster.session().run();
  assert.equal(state, 'ended');
  assert.match(why, /^given up after 12 attempts: closed with 4503 node_leaving/);
  assert.equal(cluster.sockets.length, MOST_FAILURES + 1);
  assert.equal(cluster.pauses.length, MOST_FAILURES);
  assert.deepEqual(cluster.pauses.slice(0, 4), [187.5, 375, 750, 1500]);
  assert.ok(cluster.pauses.every((ms) => ms <= 8_000));
});

test('a scheduler that is away is followed by the next one', async () => {
  const gone = { status: 0, body: {} };
  const cluster = new Cluster([stay], [gone, placed()]);
  const session = cluster.session({ kind: 'lookup', schedulers: ['http://s1', 'http://s2/'] });
  const ended = session.run();
  await settle();
  assert.deepEqual(
    cluster.lookups.map((url) => new URL(url).host),
    ['s1', 's2'],
  );
  assert.equal(session.status.state, 'joined');
  session.leave();
  await ended;
});

test('Retry-After is kept to, and a lookup that can never succeed ends the session', async () => {
  const wait = problem('starting', 503, true, { 'retry-after': '2' });
  const cluster = new Cluster([stay], [wait, problem('bad_id', 400, false)]);
  const { state, problem: shown } = await cluster.session().run();
  assert.deepEqual([state, shown?.code], ['ended', 'bad_id']);
  assert.deepEqual(cluster.pauses, [2250]);
});

test('leaving while a lookup or a pause runs ends the session', async () => {
  const cluster = new Cluster([stay], [problem('starting', 503, true)]);
  const session = cluster.session();
  const ended = session.run();
  session.leave();
  assert.equal((await ended).why, 'left');
  assert.equal(cluster.sockets.length, 0);
});

test('media that cannot be repaired gives the connection up and comes back', async () => {
  const drops: ((why: string) => void)[] = [];
  const members: FakeMember[] = [];
  const cluster = new Cluster([stay]);
  const session = cluster.session(undefined, ((drop: (why: string) => void) => {
    drops.push(drop);
    const member = new FakeMember();
    members.push(member);
    return member;
  }) as never);
  const ended = session.run();
  await settle();
  drops[0]?.('the media connection is lost');
  await settle();
  assert.equal(session.status.connections, 2);
  assert.equal(members[0]?.closed, true);
  session.leave();
  await ended;
});

test('a refused join ends the session, an unanswered one comes back', async () => {
  class Asks extends FakeMember {
    override async join(socket: Protoo): Promise<void> {
      await socket.request('join');
    }
  }
  const refuse: Script = (socket) => {
    socket.accept();
    setImmediate(() => {
      const id = socket.sent[0]?.id;
      socket.frame({ response: true, id, ok: false, errorCode: 403, errorReason: 'no' });
    });
  };
  const refused = await new Cluster([refuse]).session(undefined, () => new Asks()).run();
  assert.deepEqual([refused.state, refused.why], ['ended', 'join refused: 403 no']);

  const hangUp: Script = (socket) => {
    socket.accept();
    setImmediate(() => socket.end(4503, 'node_leaving'));
  };
  const cluster = new Cluster([hangUp, refuse]);
  await cluster.session(undefined, () => new Asks()).run();
  assert.deepEqual(cluster.states(), ['looking_up', 'connecting', 'returning', 'looking_up', 'connecting', 'ended']);
});
