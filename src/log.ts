import { pino, type Logger } from 'pino';
import { LogOutput } from './log-output.ts';

export type { Logger };

/** Which process speaks. */
export type Role = 'primary' | 'manager' | 'worker' | 'engine';

/**
 * A logger that writes JSON lines to stdout, where every process of the program writes.
 *
 * Writes are synchronous, so that the last words of a dying process are not lost; the request path logs only what went
 * wrong. A reader that goes away must not take the program along, and one that stops reading must not stop it.
 */
export function createLogger(role: Role, bindings: Record<string, unknown> = {}): Logger {
  const lost = (lines: number): string => {
    const line = { level: 'warn', time: new Date().toISOString(), role, pid: process.pid, ...bindings, lines };
    return `${JSON.stringify({ ...line, msg: 'log lines were lost: nobody read them in time' })}\n`;
  };
  return pino(
    {
      level: 'info',
      base: { role, pid: process.pid, ...bindings },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: pino.stdSerializers.errWithCause },
    },
    new LogOutput(lost),
  );
}

/**
 * Makes an exception that nobody caught end this process with status 1, its stack in the log: a process in an unknown
 * state is replaced, never kept.
 */
export function dieLoudly(log: Logger): void {
  process.on('uncaughtException', (err, origin) => {
    log.fatal({ err, origin }, 'uncaught exception');
    process.exit(1);
  });
}
