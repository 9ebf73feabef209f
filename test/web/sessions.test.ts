import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { LoginFailures } from '../../src/manager/login-failures.ts';
import { Sessions } from '../../src/web/sessions.ts';
import { send } from '../support/http.ts';
import { serve } from './support.ts';

const HOUR = 3_600_000;

/** Sessions behind a server: `/in` logs in, `/out` logs out, `/` says whether the caller is in. */
async function setUp(t: TestContext, given: { tokens: string[]; now: number }) {
  const address = await serve(t, (context) => {
    const sessions = current.sessions;
    if (context.path === '/in')
      context.set(
        'Set-Cookie',
        sessions.begin(context, String(context.query['token'] ?? given.tokens[0]), context.query['tls'] === '1'),
      );
    if (context.path === '/out') context.set('Set-Cookie', sessions.end(context));
    context.body = String(sessions.admits(context));
  });
  const make = () =>
    new Sessions(
      () => given.tokens,
      () => given.now,
    );
  const current = { sessions: make() };
  const call = async (path: string, cookie = '') => send(address, path, { headers: cookie ? { cookie } : {} });
  const logIn = async (token = given.tokens[0] ?? '') =>
    String((await call(`/in?token=${token}`)).headers['set-cookie']).split(';')[0] ?? '';
  const isIn = async (cookie: string) => (await call('/', cookie)).text === 'true';
  return { call, logIn, isIn, restart: () => (current.sessions = make()) };
}

test('a login is good for twelve hours, outlives a restart, and ends with the token', async (t) => {
  const given = { tokens: ['first'], now: 1_790_000_000_000 };
  const { logIn, isIn, restart } = await setUp(t, given);
  const cookie = await logIn();
  assert.equal(await isIn(cookie), true);
  restart();
  assert.equal(await isIn(cookie), true);
  given.now += 12 * HOUR - 1;
  assert.equal(await isIn(cookie), true);
  given.now += 1;
  assert.equal(await isIn(cookie), false);
  given.now -= 2 * HOUR;
  given.tokens = ['second'];
  assert.equal(await isIn(cookie), false);
  given.tokens = [];
  assert.equal(await isIn(cookie), false);
});

test('with several tokens a login lasts as long as the one that it was made with', async (t) => {
  const given = { tokens: ['first'], now: 1_790_000_000_000 };
  const { logIn, isIn, restart } = await setUp(t, given);
  const before = await logIn('first');
  given.tokens = ['second', 'first'];
  const after = await logIn('second');
  assert.deepEqual([await isIn(before), await isIn(after)], [true, true]);
  restart();
  assert.deepEqual([await isIn(before), await isIn(after)], [true, true]);
  given.tokens = ['second'];
  assert.deepEqual([await isIn(before), await isIn(after)], [false, true]);
  given.tokens = ['third', 'second'];
  assert.deepEqual([await isIn(before), await isIn(after)], [false, true]);
});

test('a logout ends that login and no other', async (t) => {
  const { call, logIn, isIn } = await setUp(t, { tokens: ['secret'], now: 1_790_000_000_000 });
  const [one, two] = [await logIn(), await logIn()];
  assert.notEqual(one, two);
  const answer = await call('/out', one);
  assert.match(String(answer.headers['set-cookie']), /^wunderproxy-\d+=; Path=\/; Max-Age=0;/);
  assert.equal(await isIn(one), false);
  assert.equal(await isIn(two), true);
});

test('no cookie but ours is taken', async (t) => {
  const { logIn, isIn } = await setUp(t, { tokens: ['secret'], now: 1_790_000_000_000 });
  const cookie = await logIn();
  assert.equal(cookie.includes('secret'), false);
  const [name = '', value = ''] = cookie.split('=');
  const [end = '', random = '', signature = ''] = value.split('.');
  const longer = `${name}=${Number(end) + 1}.${random}.${signature}`;
  const other = `${name}=${end}.${random}.${signature.startsWith('A') ? 'B' : 'A'}${signature.slice(1)}`;
  for (const forged of [longer, other, `${name}=`, `${name}=${end}.${random}`, `${name}=a.b.c`, `x${cookie}`]) {
    assert.equal(await isIn(forged), false, forged);
  }
});

test('the cookie is out of reach of scripts and foreign pages, and of plain http after a login over https', async (t) => {
  const { call } = await setUp(t, { tokens: ['secret'], now: 1_790_000_000_000 });
  assert.match(
    String((await call('/in')).headers['set-cookie']),
    /; Path=\/; Max-Age=43200; HttpOnly; SameSite=Strict$/,
  );
  assert.match(String((await call('/in?tls=1')).headers['set-cookie']), /; HttpOnly; SameSite=Strict; Secure$/);
});

test('an address has twenty tries, then one every three seconds', async (t) => {
  let now = 0;
  const failures = new LoginFailures(() => now);
  const address = await serve(t, (context) => {
    try {
      failures.check(context);
      failures.add(context);
      context.body = 'tried';
    } catch (error) {
      context.body = (error as { code: string }).code;
    }
  });
  const attempt = async () => (await send(address, '/')).text;
  for (let n = 0; n < 20; n++) assert.equal(await attempt(), 'tried');
  assert.equal(await attempt(), 'too_many_attempts');
  now += 3_000;
  assert.equal(await attempt(), 'tried');
  assert.equal(await attempt(), 'too_many_attempts');
  now += 60_000;
  for (let n = 0; n < 20; n++) assert.equal(await attempt(), 'tried');
  assert.equal(await attempt(), 'too_many_attempts');
});
