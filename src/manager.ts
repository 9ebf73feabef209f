/** The manager's process: the control plane with the pages that hang into its API; neither knows of the other. */
import { runManager } from './manager/manager.ts';
import { statusPage } from './web/page.ts';

runManager(statusPage);
