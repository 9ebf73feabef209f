import { pino } from 'pino';
import type { Logger } from '../../src/log.ts';

/** A logger that keeps its lines. */
export function memoryLog(): { log: Logger; lines: Record<string, unknown>[] } {
  const lines: Record<string, unknown>[] = [];
  const write = (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>);
  return { log: pino({ formatters: { level: (label) => ({ level: label }) } }, { write }), lines };
}
