import { readFile } from 'node:fs/promises'
import { text } from 'node:stream/consumers'
import { systemClock } from '../core/clock.ts'
import { SetupError } from '../core/errors.ts'
import { ask, explainStatus, findServer, jsonBody } from './api-client.ts'
import { makeSubmission, type SubmitOptions } from './task-request.ts'
import type { ShownTask } from './task-text.ts'
import { followTask } from './task-watch.ts'
import { commandName } from '../core/command-name.ts'

/** Submits one task; with `--wait`, follows it to its end. Resolves with the exit code. */
export async function submitTask(file: string | undefined, options: SubmitOptions): Promise<number> {
  const server = findServer(options.url, process.env)
  const source = file === undefined ? '' : file === '-' ? 'standard input' : file
  const content = file === undefined ? null : await readSource(file)
  const submission = makeSubmission(content, { options, source, nowMs: systemClock.wallMs() })
  const init = jsonBody(submission)
  const key = options.idempotencyKey
  if (key !== undefined) {
    if (!/^[\x20-\x7e]{1,255}$/.test(key)) {
      throw new SetupError(`--idempotency-key must be 1 to 255 printable ASCII characters`)
    }
    init.headers = { ...(init.headers as Record<string, string>), 'idempotency-key': key }
  }
  const response = await ask(server, '/v1/tasks', init)
  if (!response.ok) throw await explainStatus(server, '/v1/tasks', response)
  const task = (await response.json()) as ShownTask
  if (response.status === 200)
    process.stderr.write('this task is known already: the idempotency key was used before\n')
  if (options.wait) return followTask(server, task.id, { json: options.json ?? false })
  process.stdout.write(options.json ? `${JSON.stringify(task, null, 2)}\n` : `${task.id}\n`)
  if (process.stderr.isTTY)
    process.stderr.write(`${task.status}; follow it with: ${commandName} task watch ${task.id}\n`)
  return 0
}

async function readSource(file: string): Promise<string> {
  if (file === '-') return text(process.stdin)
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw new SetupError(`${file} can't be read (${(error as NodeJS.ErrnoException).code}); check the path`)
  }
}
