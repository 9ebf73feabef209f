import type { Case, Contender, Context } from './case.ts';
import { CPU, FAILED, MEMORY, P99, RATE } from './case.ts';
import { loadCase } from './load-case.ts';
import { versionOf } from './session.ts';

/** Whether more workers serve more: each subject with 1, 2, 4 … workers, compared with itself with one. */
export const growth: Case = {
  name: 'growth',
  title: 'From 1 worker to as many as there are CPUs: small GET, 64 connections kept alive (× itself with 1 worker)',
  metrics: [RATE, CPU, P99, MEMORY, FAILED],
  async measure(context: Context) {
    // It takes less of the processors than autocannon, which matters most here.
    const driver = versionOf('wrk', ['-v']) === null ? 'autocannon' : 'wrk';
    const contenders = context.contenders.flatMap((contender) =>
      steps(contender.workers).map((workers): Contender => ({
        ...contender,
        name: `${contender.name} ×${workers}`,
        workers,
        reference: `${contender.name} ×1`,
      })),
    );
    const { measure } = loadCase({ ...this, load: { driver, connections: 64, path: '/small' } });
    const measured = await measure({ ...context, contenders });
    const note = 'clients and application share the processors with the proxies: what is left for those bounds growth';
    return { ...measured, notes: [...measured.notes, note] };
  },
};

function steps(most: number): number[] {
  const numbers = [];
  for (let number = 1; number < most; number *= 2) numbers.push(number);
  return [...numbers, most];
}
