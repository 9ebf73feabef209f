import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { send } from '../support/http.ts';
import { RawUpstream } from './support/upstream.ts';
import { RawClient, TestWorker } from './support/worker.ts';

const PATH = '/.well-known/acme-challenge/';
const TOKEN = 'evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA';

async function worker(t: TestContext, flags = ['--acme-domain', 'shop.example.com']): Promise<TestWorker> {
  return TestWorker.start(t, { flags });
}

/** Answers as a manager that knows one challenge, and keeps what it was asked for. */
function answering(worker: TestWorker, known: Record<string, string>): string[] {
  const asked: string[] = [];
  worker.process.on('message', (message: { type: string; token: string }) => {
    if (message.type !== 'challenge') return;
    asked.push(message.token);
    worker.send({ type: 'challenge', token: message.token, answer: known[message.token] ?? null });
  });
  return asked;
}

const at = (worker: TestWorker) => `127.0.0.1:${worker.port}`;

describe('challenges of ACME', () => {
  test('a challenge is answered with what the manager knows, on whatever host, and counted', async (t) => {
    const served = await worker(t, ['--acme-domain', 'shop.example.com', '--host', 'other.example.com']);
    answering(served, { [TOKEN]: `${TOKEN}.thumbprint` });
    const answer = await send(at(served), PATH + TOKEN, { headers: { host: 'shop.example.com' } });
    assert.equal(answer.status, 200);
    assert.equal(answer.text, `${TOKEN}.thumbprint`);
    assert.equal(answer.headers['content-type'], 'application/octet-stream');
    assert.equal(answer.headers['cache-control'], 'no-store');
    const stats = await served.statsWhen(({ requests }) => requests > 0);
    assert.deepEqual([stats.requests, stats.statusCodes], [1, { 200: 1 }]);
  });

  test('HEAD gets the head of it, and the connection goes on', async (t) => {
    const served = await worker(t);
    answering(served, { [TOKEN]: 'answer' });
    const client = await RawClient.connect(t, served.port);
    client.send(`HEAD ${PATH}${TOKEN} HTTP/1.1\r\nHost: a\r\n\r\nGET ${PATH}${TOKEN} HTTP/1.1\r\nHost: a\r\n\r\n`);
    const text = await client.until(/\r\n\r\nanswer$/);
    assert.equal(text.match(/HTTP\/1\.1 200 OK\r\n/g)?.length, 2);
    assert.equal(text.match(/Content-Length: 6\r\n/g)?.length, 2);
  });

  test('a token that nobody knows is 404 unknown_challenge', async (t) => {
    const served = await worker(t);
    answering(served, {});
    const answer = await send(at(served), PATH + TOKEN);
    assert.equal(answer.status, 404);
    assert.equal(answer.headers['wunderproxy-error'], 'unknown_challenge');
  });

  test('a manager that does not answer is not waited for', async (t) => {
    const served = await worker(t);
    const answer = await send(at(served), PATH + TOKEN);
    assert.equal(answer.status, 404);
    // Too late, and of no consequence.
    served.send({ type: 'challenge', token: TOKEN, answer: 'late' });
    answering(served, { [TOKEN]: 'in time' });
    assert.equal((await send(at(served), PATH + TOKEN)).text, 'in time');
  });

  test('who asks and goes away changes nothing for others', async (t) => {
    const served = await worker(t);
    const leaver = await RawClient.connect(t, served.port);
    const asked = served.message('challenge');
    leaver.send(`GET ${PATH}${TOKEN} HTTP/1.1\r\nHost: a\r\n\r\n`);
    await asked;
    leaver.socket.destroy();
    await leaver.closed;
    const stays = send(at(served), PATH + TOKEN);
    await served.statsWhen(({ connectionsAccepted, states }) => connectionsAccepted === 2 && states.active === 1);
    served.send({ type: 'challenge', token: TOKEN, answer: 'answer' });
    assert.equal((await stays).text, 'answer');
    const stats = await served.quiet();
    assert.deepEqual(stats.statusCodes, { 200: 1, 499: 1 });
  });

  test('many who ask for one token are one question to the manager', async (t) => {
    const served = await worker(t);
    const tokens: string[] = [];
    served.process.on('message', (message: { type: string; token: string }) => {
      if (message.type === 'challenge') tokens.push(message.token);
    });
    const answers = Array.from({ length: 20 }, async () => send(at(served), PATH + TOKEN));
    await served.statsWhen(({ states }) => states.active === 20);
    served.send({ type: 'challenge', token: TOKEN, answer: 'answer' });
    assert.deepEqual(new Set((await Promise.all(answers)).map(({ text }) => text)), new Set(['answer']));
    assert.deepEqual(tokens, [TOKEN]);
  });

  test('who makes up tokens gets 256 questions to the manager at a time, and no more', async (t) => {
    const served = await worker(t);
    let questions = 0;
    served.process.on('message', ({ type }: { type: string }) => {
      if (type === 'challenge') questions++;
    });
    const statuses = Array.from({ length: 300 }, async (_, i) => (await send(at(served), `${PATH}t${i}`)).status);
    assert.deepEqual(new Set(await Promise.all(statuses)), new Set([404]));
    assert.equal(questions, 256);
    // All of them have had their time; others may ask again.
    answering(served, { [TOKEN]: 'answer' });
    assert.equal((await send(at(served), PATH + TOKEN)).status, 200);
  });

  const others: [name: string, method: string, path: string, flags?: string[]][] = [
    ['without --acme-domain', 'GET', PATH + TOKEN, []],
    ['with another method', 'POST', PATH + TOKEN],
    ['with a query', 'GET', `${PATH}${TOKEN}?x`],
    ['without a token', 'GET', PATH],
    ['with what is no token', 'GET', `${PATH}a.b`],
    ['with a path below a token', 'GET', `${PATH}${TOKEN}/x`],
    ['with a way out of the folder', 'GET', `${PATH}..%2f..%2fcurrent`],
    ['with a token that is too long', 'GET', `${PATH}${'a'.repeat(129)}`],
  ];
  for (const [name, method, path, flags] of others) {
    test(`a request ${name} is the application's`, async (t) => {
      const upstream = await RawUpstream.answering(t, 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\napp');
      const served = await worker(t, flags);
      await served.switchTo(upstream.target);
      const asked = answering(served, {});
      assert.equal((await send(at(served), path, { method })).text, 'app');
      assert.ok(upstream.received.startsWith(`${method} ${path} HTTP/1.1\r\n`));
      assert.deepEqual(asked, []);
    });
  }
});
