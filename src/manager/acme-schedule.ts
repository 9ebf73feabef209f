const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** The first try after a failure; each further one waits twice as long. In ms. */
const FIRST_RETRY = 2 * MINUTE;
/** No wait is longer, in ms, unless the authority asks for it. */
const LONGEST_RETRY = 24 * HOUR;
/** The longest wait that an authority is granted: a clock that is wrong must not put off renewals for ever. In ms. */
export const LONGEST_WAIT = 7 * 24 * HOUR;

/** After two thirds of its life a certificate is renewed: with 90 days, 30 are left for failures. */
const RENEWED_AT = 2 / 3;

/** No order follows a successful one sooner than after this part of a certificate's life. */
const REPEATED_AT = 1 / 3;

/**
 * When a certificate is to be renewed. `spread` (0 to 1) keeps the machines that share it from all beginning at once. All
 * times in ms since the epoch.
 *
 * `orderedAt` is when one was last obtained, by the clock of whoever did it: a machine whose clock is far ahead takes every
 * certificate for due, and must not order one after the other.
 */
export function renewalTime(
  validity: { notBefore: number; notAfter: number },
  orderedAt: number | null,
  now: number,
  spread: number,
): number {
  const life = validity.notAfter - validity.notBefore;
  const due = validity.notBefore + life * RENEWED_AT + spread * Math.min(life / 100, HOUR);
  return orderedAt === null || orderedAt > now ? due : Math.max(due, orderedAt + life * REPEATED_AT);
}

/**
 * How long to wait after so many failures in a row, in ms. Five tries fall into the first hour, which is what Let's Encrypt
 * allows. `spread` is a number from 0 to 1; `asked` what the authority wants.
 */
export function retryDelay(failures: number, spread: number, asked: number): number {
  const doubled = Math.min(FIRST_RETRY * 2 ** Math.min(failures - 1, 20), LONGEST_RETRY);
  return Math.min(Math.max(doubled * (0.9 + 0.2 * spread), asked), LONGEST_WAIT);
}
