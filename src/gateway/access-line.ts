import type { RequestRecord } from './request-record.ts'

/**
 * One line of the access log, in the form pino gives to all others. Written by hand because it is written at every
 * request: through pino's serialiser it costs more than routing, relay and metrics together (docs/benchmarks.md).
 */
export function formatAccessLine(
  record: RequestRecord,
  line: { level: number; time: string; durationMs: number },
): string {
  const { ttftMs, error, cache, prompt, caller } = record
  return (
    `{"level":${line.level},"time":"${line.time}","requestId":"${record.id}","method":"${record.method}"` +
    `,"endpoint":"${record.endpoint}","status":${record.status},"durationMs":${round(line.durationMs)}` +
    (caller.tenant === '' ? '' : `,"tenant":"${caller.tenant}"`) +
    (caller.name === null ? '' : `,"caller":${quote(caller.name)}`) +
    `,"model":${quote(record.model)},"instance":${quote(record.instance)},"attempts":${record.attempts}` +
    `,"stream":${record.stream},"ttftMs":${ttftMs === null ? 'null' : round(ttftMs)}` +
    `,"promptTokens":${record.promptTokens},"completionTokens":${record.completionTokens}` +
    `,"error":${error === null ? 'null' : `"${error}"`}` +
    (cache === null ? '' : `,"cache":"${cache}"`) +
    `${prompt === undefined ? '' : `,"prompt":${JSON.stringify(prompt)}`},"msg":"request"}\n`
  )
}

const round = (ms: number) => Math.round(ms * 100) / 100

/** Names are the operator's and may hold anything; most hold nothing that JSON would escape. */
function quote(text: string | null): string {
  if (text === null) return 'null'
  return /^[\w.:/ -]*$/.test(text) ? `"${text}"` : JSON.stringify(text)
}
