import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChallengeAnswers } from '../../src/manager/acme-challenges.ts';
import type { Answers } from '../../src/manager/acme-objects.ts';
import { memoryLog } from '../support/memory-log.ts';

/** A look into a store that takes as long as the test wants. */
function looks() {
  const begun: PromiseWithResolvers<Answers>[] = [];
  const read = async () => {
    const look = Promise.withResolvers<Answers>();
    begun.push(look);
    return look.promise;
  };
  const next = async (count: number) => {
    while (begun.length < count) await new Promise((resolve) => setTimeout(resolve, 5));
    return begun[count - 1] ?? assert.fail();
  };
  return { begun, read, next };
}

test("this machine's own answers need no look into the store", async () => {
  const { begun, read } = looks();
  const challenges = new ChallengeAnswers(read, memoryLog().log);
  challenges.publish({ token: 'answer' });
  assert.equal(await challenges.answer('token'), 'answer');
  assert.equal(begun.length, 0);
});

test('an answer that was stored before it was asked for is found, although a look is under way', async () => {
  const { read, next } = looks();
  const challenges = new ChallengeAnswers(read, memoryLog().log);
  const early = challenges.answer('early');
  const first = await next(1);
  const late = challenges.answer('late');
  first.resolve({});
  assert.equal(await early, null);
  (await next(2)).resolve({ late: 'answer' });
  assert.equal(await late, 'answer');
});

test('all who ask while a look is under way share the next one', async () => {
  const { begun, read, next } = looks();
  const challenges = new ChallengeAnswers(read, memoryLog().log);
  const all = Array.from({ length: 1_000 }, async (_, i) => challenges.answer(`t${i}`));
  (await next(1)).resolve({ t0: 'zero' });
  (await next(2)).resolve({ t0: 'zero', t999: 'last' });
  const answers = await Promise.all(all);
  assert.deepEqual([answers[0], answers[1], answers[999]], ['zero', null, 'last']);
  assert.equal(begun.length, 2);
});

test('no more than 2000 wait for a look', async () => {
  const { read, next } = looks();
  const challenges = new ChallengeAnswers(read, memoryLog().log);
  const first = challenges.answer('first');
  const look = await next(1);
  const waiting = Array.from({ length: 2_000 }, async (_, i) => challenges.answer(`t${i}`));
  assert.equal(await challenges.answer('one-more'), null, 'it is not waited for');
  look.resolve({});
  assert.equal(await first, null);
  (await next(2)).resolve({ t1999: 'answer' });
  assert.equal((await Promise.all(waiting))[1_999], 'answer');
});

test('a store that can not be read is no answer, and said in the log', async () => {
  const { read, next } = looks();
  const { log, lines } = memoryLog();
  const challenges = new ChallengeAnswers(read, log);
  const answer = challenges.answer('token');
  (await next(1)).reject(new Error('the disk is gone'));
  assert.equal(await answer, null);
  assert.deepEqual(
    lines.map(({ level, why }) => [level, why]),
    [['warn', 'the disk is gone']],
  );
});

test('what is no token, or a name that every object has, is nobody', async () => {
  const { begun, read, next } = looks();
  const challenges = new ChallengeAnswers(read, memoryLog().log);
  for (const token of ['', 'a/b', '../current', 'a.b', 'a'.repeat(129)]) {
    assert.equal(await challenges.answer(token), null);
  }
  assert.equal(begun.length, 0);
  const inherited = challenges.answer('constructor');
  (await next(1)).resolve({});
  assert.equal(await inherited, null);
});
