/*
 * Everything that is true of HTTP/1 on the wire is true of it over TLS: these files run once more, with every client and
 * every worker of theirs speaking TLS.
 */
process.env['TEST_OVER_TLS'] = 'true';

await import('./buffering.test.ts');
await import('./failures.test.ts');
await import('./lifecycle.test.ts');
await import('./own-bytes.test.ts');
await import('./responses.test.ts');
await import('./soak.test.ts');
await import('./timers.test.ts');
await import('./upgrade.test.ts');
await import('../wire/attack-responses.test.ts');
await import('../wire/requests.test.ts');
await import('../wire/responses.test.ts');
