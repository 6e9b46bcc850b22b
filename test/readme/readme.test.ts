import { strict as assert } from 'node:assert'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { eventually } from '../helpers/server.ts'

const root = join(import.meta.dirname, '../..')
const run = promisify(execFile)

/** The README's command to start, then its curl: what a person does in the first minute, on the port it says. */
test("the README's commands start the product and get a real completion", async () => {
  const readme = await readFile(join(root, 'README.md'), 'utf8')
  const shells = [...readme.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, text]) => text as string)
  const start = shells.find((text) => text.includes('npm start')) as string
  const [curl, later] = shells.filter((text) => text.startsWith('curl')) as [string, string]
  assert.equal(start.trim(), 'npm ci && npm start')

  // The install has just been done; a second one would pull the ground from under this test.
  const server = spawn('npm', ['start'], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'], detached: true })
  const exited = once(server, 'exit')
  let output = ''
  const { promise: ready, resolve } = Promise.withResolvers<void>()
  server.stdout.on('data', (chunk) => {
    output += String(chunk)
    if (output.includes('Ctrl-C')) resolve()
  })
  try {
    await Promise.race([ready, exited])
    assert.match(output, /listens on http:\/\/127\.0\.0\.1:8080\n/)
    const { stdout } = await run('bash', ['-c', curl])
    const answer = JSON.parse(stdout) as {
      choices: { message: { content: string } }[]
      usage: { total_tokens: number }
    }
    assert.match(answer.choices[0]?.message.content ?? '', /\w+ \w+ \w+/)
    assert.ok(answer.usage.total_tokens > 10)

    const submitted = (await run('bash', ['-c', later], { cwd: root })).stdout
    const id = /"id":"(task_\w+)"/.exec(submitted)?.[1] as string
    assert.ok(submitted.indexOf(id, submitted.indexOf(id) + 1) > 0, `the list shows the task: ${submitted}`)
    await eventually('the task has succeeded', async () => {
      const task = await fetch(`http://127.0.0.1:8080/v1/tasks/${id}`)
      return ((await task.json()) as { status: string }).status === 'succeeded'
    })
  } finally {
    process.kill(-(server.pid as number), 'SIGINT')
    await exited
  }
  assert.match(output, /\nstopped\n/)
})
