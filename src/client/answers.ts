import * as z from 'zod';

/*
 * What the client reads of a manager's answers. Managers of other versions may say more, so nothing else is looked at; what
 * is missing here means that it is no manager.
 */

const container = z.looseObject({
  Hash: z.string(),
  Revision: z.string(),
  Id: z.string(),
  State: z.string(),
  Failure: z.string().nullish(),
  InFlight: z.number(),
  Upgraded: z.number(),
  DrainSince: z.string().nullish(),
  DrainDeadline: z.string().nullish(),
});

const launch = z.looseObject({
  Hash: z.string(),
  Phase: z.string(),
  Step: z.string(),
  Probes: z.array(z.looseObject({ Result: z.string() })),
});

const peer = z.looseObject({
  Machine: z.string(),
  Name: z.string(),
  Self: z.boolean(),
  /** Where its manager can be reached, or null when only from that machine itself. */
  Api: z.string().nullish(),
  Stale: z.boolean(),
});

/** What serves now, and what is under way: `/status?keys=…`. */
export const progressAnswer = z.looseObject({
  /** The manager does not know yet what runs. */
  Starting: z.boolean(),
  Active: container.nullable(),
  Containers: z.array(container),
  Launches: z.array(launch),
});
export type Progress = z.infer<typeof progressAnswer>;

/** The same with what tells machines apart. */
export const statusAnswer = progressAnswer.extend({
  App: z.string(),
  Store: z.string(),
  Peers: z.array(z.unknown()),
});
export type Status = z.infer<typeof statusAnswer>;

export type Peer = z.infer<typeof peer>;

/** The machines that share the store, as a status names them; entries of a form that is not known are left out. */
export function peersOf(status: Status): Peer[] {
  return status.Peers.flatMap((each) => peer.safeParse(each).data ?? []);
}

export const configAnswer = z.looseObject({ Hash: z.string(), Revision: z.string() });

export const containerAnswer = z.looseObject({
  Message: z.string(),
  Id: z.string(),
  Hash: z.string(),
  Revision: z.string(),
});
export type ContainerAnswer = z.infer<typeof containerAnswer>;

export const messageAnswer = z.looseObject({ Message: z.string() });

export const historyAnswer = z.array(
  z.looseObject({ Revision: z.string(), DeployedAt: z.string(), DeployedBy: z.string(), Hash: z.string() }),
);

export const errorAnswer = z.looseObject({
  Error: z.looseObject({ Code: z.string(), Message: z.string(), Detail: z.unknown().optional() }),
});

/** Probe results and log lines in an error's detail, as lines for people. */
export function evidenceIn(detail: unknown): string[] {
  const parsed = z
    .looseObject({
      Probes: z.array(z.looseObject({ Result: z.string(), Count: z.number() })).catch([]),
      Logs: z.array(z.string()).catch([]),
    })
    .safeParse(detail);
  if (!parsed.success) return [];
  const { Probes, Logs } = parsed.data;
  return [
    ...Probes.map(({ Count, Result }) => `health check: ${Count}× ${Result}`),
    ...(Logs.length > 0 ? ['its last log lines:', ...Logs.map((line) => `  ${line}`)] : []),
  ];
}
