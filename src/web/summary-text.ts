import type { Status } from '../manager/status.ts';
import { machineLines } from './machines-section.ts';
import { findings } from './verdict.ts';

/** The page in a few lines of text, for `curl`. `now` is in ms since the epoch. */
export function summaryText(status: Status, now = Date.now()): string {
  const lines = [
    `${status.App}: ${findings(status)
      .map(({ text }) => text)
      .join(' ')}`,
    ...status.Containers.map((each) => {
      const { Revision, Hash, Id, State, Address, InFlight } = each;
      return `${State.padEnd(9)} ${Revision} container ${Id.slice(0, 8)} config ${Hash} at ${Address ?? '-'}, ${InFlight} in flight`;
    }),
    ...machineLines(status, now),
    'More: /status /history /journal, or this address in a browser.',
  ];
  // What comes from outside is not to steer the terminal.
  return `${lines.map((line) => line.replace(/[\x00-\x1f\x7f-\x9f]/g, ' ')).join('\n')}\n`;
}
