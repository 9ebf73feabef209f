import type Router from '@koa/router';
import type { Context } from 'koa';
import * as z from 'zod';
import { WunderproxyError } from '../errors.ts';
import { parseDuration, parseWhole } from '../units.ts';
import { answer, deployedBy, readBody, readBytes, wantsJson } from './api-body.ts';
import { type Container } from './containers.ts';
import type { Control } from './control.ts';
import type { LockRequest } from './deploy-lock.ts';
import { parseIdentifier } from './launch-config.ts';
import { LogFollowers } from './log-followers.ts';

/** Launch configs are a few KiB; in bytes. */
const LONGEST_CONFIG = 2 ** 20;
/** How long a lock lives without being renewed, in ms. */
const LOCK_LIFE = { default: 60_000, min: 1_000, max: 3_600_000 } as const;
const TAIL = { default: 100, max: 10_000 } as const;

const lockBody = z.strictObject({
  /** A secret with some length to it: whoever knows it can release the lock. */
  Token: z.string().min(16).max(200),
  What: z.string().max(200).optional(),
  Life: z.string().optional(),
  Renew: z.boolean().optional(),
});

/**
 * What `wunderproxy deploy` and its like need beside launch and switch: configs, the lock, logs. `admitted`: whether a request
 * that was let in would be let in now.
 */
export function addDeployRoutes(
  router: Router,
  { environment, lock, containers, runtime }: Control,
  admitted: (context: Context) => boolean,
): void {
  const followers = new LogFollowers(runtime, admitted);

  router.post('/configs', async (context) => {
    const { hash, config } = await environment.storeConfig(await readBytes(context, LONGEST_CONFIG));
    if (wantsJson(context)) context.body = { Hash: hash, Revision: config.Revision };
    else context.body = `${hash}\n`;
  });

  router.get('/lock', async (context) => {
    const held = await lock.holder();
    const text = held
      ? `${held.Owner}: ${held.What}, since ${held.TakenAt}, until ${held.ExpiresAt}`
      : 'nobody deploys';
    answer(context, text, { Lock: held });
  });

  router.post('/lock', async (context) => {
    const body = await lockCall(context);
    const request: LockRequest = {
      token: body.Token,
      owner: deployedBy(context),
      what: body.What ?? 'a deploy',
      life: lifeOf(body.Life),
    };
    const held = body.Renew === true ? await lock.renew(request) : await lock.take(request);
    answer(context, `locked until ${held.ExpiresAt}`, { Lock: held });
  });

  router.delete('/lock', async (context) => {
    await lock.release((await lockCall(context)).Token);
    answer(context, 'released', { Lock: null });
  });

  router.get('/logs', async (context) => {
    const tail = tailOf(context);
    const follow = followOf(context);
    const container = containerFor(context, containers.all());
    // An empty log would look like an application that says nothing.
    if (runtime.problem !== null) throw new WunderproxyError('runtime_unavailable', { message: runtime.problem });
    if (follow) return followers.open(context, container.id, tail);
    const lines = await runtime.logs(container.id, tail);
    if (wantsJson(context)) {
      const { id, hash, revision } = container;
      context.body = { Container: id, Hash: hash, Revision: revision, Lines: lines };
    } else {
      context.body = lines.map((line) => `${line}\n`).join('');
    }
  });
}

async function lockCall(context: Context): Promise<z.infer<typeof lockBody>> {
  let json: unknown;
  try {
    json = JSON.parse(await readBody(context));
  } catch (error) {
    if (error instanceof WunderproxyError) throw error;
    // Not its words: they may quote the token.
    throw new WunderproxyError('bad_parameters', { message: 'The body is to be JSON: { "Token", "What", "Life" }.' });
  }
  const parsed = lockBody.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new WunderproxyError('bad_parameters', { message: `${issue?.path.join('.') || 'body'}: ${issue?.message}` });
}

function lifeOf(text: string | undefined): number {
  if (text === undefined) return LOCK_LIFE.default;
  try {
    return Math.min(LOCK_LIFE.max, Math.max(LOCK_LIFE.min, parseDuration(text)));
  } catch (error) {
    throw new WunderproxyError('bad_parameters', { message: `Life: ${(error as Error).message}` });
  }
}

function followOf(context: Context): boolean {
  const { follow } = context.query;
  if (follow !== undefined && follow !== 'true' && follow !== 'false') {
    throw new WunderproxyError('bad_parameters', { message: 'follow: expected true or false' });
  }
  return follow === 'true';
}

function tailOf(context: Context): number {
  const { tail } = context.query;
  if (tail === undefined) return TAIL.default;
  try {
    return parseWhole(String(tail), 1, TAIL.max);
  } catch (error) {
    throw new WunderproxyError('bad_parameters', { message: `tail: ${(error as Error).message}` });
  }
}

/** The newest container with the hash that is asked for, else the one in service. Throws `no_such_container`. */
function containerFor(context: Context, all: Container[]): Container {
  const { hash } = context.query;
  if (hash === undefined) {
    const active = all.find(({ inService }) => inService);
    if (active) return active;
    throw new WunderproxyError('no_such_container', { message: 'No container is in service.' });
  }
  const wanted = parseIdentifier(String(hash), 'hash');
  const found = all.findLast((container) => container.hash === wanted);
  if (!found) throw new WunderproxyError('no_such_container');
  return found;
}
