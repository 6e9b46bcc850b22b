import { errorTable } from '../src/core/errors.ts'

/** docs/errors.md as the table of errors tells it. */
export function writeErrorDocs(): string {
  const rows = Object.entries(errorTable).map(
    ([code, { status, type, retryable, meaning }]) =>
      `| \`${code}\` | ${status} | \`${type}\` | ${retryable ? 'yes' : 'no'} | ${meaning.replaceAll('|', '\\|')} |`,
  )
  return `# Errors

<!-- Written by \`npm run docs:errors\` from src/core/errors.ts. Change it there. -->

Every error has OpenAI's shape, so that its clients raise the exception they should:

\`\`\`json
{"error": {"message": "what happened and what to do", "type": "…", "param": "the field at fault, or null", "code": "…"}}
\`\`\`

When a stream has begun, the same object comes as an event, \`data: {"error": {…}}\`, and the stream ends after it. \`Retry-After\`
(in seconds) is there where waiting helps. *Retry* says whether the same request may succeed later.

| Code | Status | Type | Retry | Meaning |
| --- | --- | --- | --- | --- |
${rows.join('\n')}
`
}
