import { writeFileSync } from 'node:fs'
import { writeErrorDocs } from './error-docs.ts'

/** `npm run docs:errors`: writes docs/errors.md. */
writeFileSync(new URL('../docs/errors.md', import.meta.url), writeErrorDocs())
