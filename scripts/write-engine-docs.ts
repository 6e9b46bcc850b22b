import { writeFileSync } from 'node:fs'
import { writeEngineDocs } from './engine-docs.ts'

/** `npm run docs:engine`: writes docs/engine.md. */
writeFileSync(new URL('../docs/engine.md', import.meta.url), await writeEngineDocs())
