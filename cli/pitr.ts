#!/usr/bin/env node
import { enableCompileCache } from 'node:module';

// Most of a short command's time is loading code. It must be on before the rest is loaded, hence the import at run time.
enableCompileCache();
await import('./main.ts');
