import { writeFileSync } from 'node:fs'
import { writeConfigDocs } from './config-docs.ts'

/** `npm run docs:config`: writes docs/configuration.md. */
writeFileSync(new URL('../docs/configuration.md', import.meta.url), writeConfigDocs())
