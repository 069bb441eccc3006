/** A listener in a process of its own, to be killed: `DIR`. Says its port. States a frontier now and then, so that files are sealed, too. */
import { XdrListener } from '../../wal/capture/xdr/listener.ts';
import { openJournal, T0 } from './xdr-support.ts';

const journal = await openJournal(process.argv[2], T0);
const listener = await XdrListener.start({ journal, port: 0 });
setInterval(() => void listener.between(() => journal.seal()), 40);
process.stdout.write(`${listener.address.port}\n`);
