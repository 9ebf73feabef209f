import { InvalidArgumentError, Option } from 'commander';
import { parseList } from './units.ts';

/** A command line that can't be carried out: one line for stderr and the exit status. Status 0: help or version. */
export class UsageError extends Error {
  readonly exitCode: number;
  constructor(message: string, exitCode = 2) {
    super(message);
    this.name = 'UsageError';
    this.exitCode = exitCode;
  }
}

/** Lets commander say which option a bad value was given for. */
function by<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      throw new InvalidArgumentError(`${(error as Error).message}.`);
    }
  };
}

/**
 * An option that can also be given in the environment. `shown` is how its default is written. Throws UsageError.
 */
export function option<T>(
  flags: string,
  description: string,
  parse?: (text: string) => T,
  fallback?: T,
  shown?: string,
): Option {
  const made = new Option(flags, description);
  const variable = `WUNDERPROXY_${made.name().toUpperCase().replaceAll('-', '_')}`;
  if (!made.isBoolean() || isSwitchedOn(variable)) made.env(variable);
  if (parse) made.argParser(by(parse));
  if (fallback !== undefined) made.default(fallback, shown);
  return made;
}

/** An option of several values: given again and again, or separated by commas, which is the only way in a variable. */
export function repeatable(
  flags: string,
  description: string,
  check: (text: string) => string = (text) => text,
): Option {
  return option(flags, description).argParser((text: string, before: string[] | undefined) => [
    ...(before ?? []),
    ...parseList(text).map(by(check)),
  ]);
}

/** Commander takes a switch's variable for on whatever it holds. Throws UsageError. */
function isSwitchedOn(variable: string): boolean {
  const value = process.env[variable] ?? 'true';
  if (/^(true|1)$/.test(value)) return true;
  if (/^(false|0|)$/.test(value)) return false;
  throw new UsageError(`${variable}=${value}: expected true or false`);
}
