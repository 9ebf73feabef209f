import type { JournalEntry } from '../manager/journal.ts';
import type { Status } from '../manager/status.ts';
import type { Act } from './acts.ts';

/** Everything that the status page shows. */
export interface PageModel {
  status: Status;
  /** The machine's name, as in the journal. */
  host: string;
  /** Ms since the epoch. */
  now: number;
  /** The last entries, oldest first. */
  journal: readonly JournalEntry[];
  /** Why the journal of the other machines is not known at the moment, or null. */
  journalProblem: string | null;
  /** Newest first. */
  acts: readonly Act[];
}
