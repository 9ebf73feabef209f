/**
 * Reads `KEY=value` lines, as `docker run --env-file` does: blank lines and lines that start with `#` are skipped, the
 * value is everything after the first `=`, as it stands. Throws an Error that names the line, never its content: it may
 * be a secret.
 */
export function parseEnvironmentFile(text: string): Record<string, string> {
  const environment: Record<string, string> = {};
  text.split(/\r?\n/).forEach((line, index) => {
    if (line.trim() === '' || line.trimStart().startsWith('#')) return;
    const equals = line.indexOf('=');
    const key = line.slice(0, equals).trim();
    if (equals < 1 || !/^[^\s=]+$/.test(key)) throw new Error(`line ${index + 1} is not KEY=value`);
    environment[key] = line.slice(equals + 1);
  });
  return environment;
}
