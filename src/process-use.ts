/** What a process of the program uses. */
export interface ProcessUse {
  /** In bytes. */
  heapUsed: number;
  residentBytes: number;
  /** Processor time, user and system, since the process started. */
  cpuSeconds: number;
}

/** What this process uses at the moment. */
export function processUse(): ProcessUse {
  const { heapUsed, rss } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  return { heapUsed, residentBytes: rss, cpuSeconds: (user + system) / 1e6 };
}
