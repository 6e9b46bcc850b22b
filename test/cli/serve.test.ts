import { strict as assert } from 'node:assert'
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { eventually } from '../helpers/server.ts'
import { answerBackwards, chunk, Command, run, startFakeServer } from './command.ts'

describe('autoglm serve', () => {
  let fake: Awaited<ReturnType<typeof startFakeServer>>
  let cwd: string
  let command: Command
  let url: string

  before(async () => {
    fake = await startFakeServer()
  })
  after(() => fake.close())
  beforeEach(async () => {
    fake.onChat = answerBackwards
    cwd = mkdtempSync(join(tmpdir(), 'autoglm-serve-'))
    writeConfig('')
    command = new Command(['serve', '--port', '0', '--log-level', 'warn'], { cwd })
    await command.says(/Stop: Ctrl-C\n/)
    url = /listens on (\S+)/.exec(command.stdout)?.[1] ?? ''
  })
  afterEach(async () => {
    command.kill('SIGKILL')
    await command.exit()
    rmSync(cwd, { recursive: true })
  })

  const writeConfig = (more: string) =>
    writeFileSync(
      join(cwd, 'autoglm.yaml'),
      `upstreams: [{name: fake, url: "${fake.url}/v1", models: {one: one}}]\n${more}`,
    )
  const listModels = async () => {
    const { data } = (await (await fetch(`${url}/v1/models`)).json()) as { data: { id: string }[] }
    return data.map(({ id }) => id).sort()
  }

  it('says where it listens, what it serves, and a command that works when pasted', async () => {
    assert.match(command.stdout, /^Open-AutoGLM \d+\.\d+\.\d+ listens on http:\/\/127\.0\.0\.1:\d+\nconfiguration: .*\/autoglm\.yaml\nauthentication is off: .*\nmodel one: fake ready\n/)
    const pasted = /Try it:\n([\s\S]*?)\n\n/.exec(command.stdout)?.[1] ?? ''
    assert.match(pasted, /^ {2}curl http/)
    fake.onChat = (_body, response) =>
      response.setHeader('content-type', 'application/json').end('{"choices":[{"message":{"content":"pasted"}}]}')
    const { code, stdout } = await shell(pasted)
    assert.equal(code, 0)
    assert.match(stdout, /pasted/)
  }) // prettier-ignore

  it('can be talked to by chat and models', async () => {
    const chat = await run(['chat', '--url', url, 'abc'], { cwd: '/' })
    assert.equal(chat.stdout, 'cba\n')
    const models = await run(['models', '--url', url], { cwd: '/' })
    assert.match(models.stdout, /^one +ready +1 of 1 available$/m)
  })

  it('takes over a saved file, refuses a bad one, and takes over the next', async () => {
    writeConfig('routing: {aliases: {other: one}}\n')
    await command.says(/configuration reloaded/)
    assert.deepEqual(await listModels(), ['one', 'other'])

    writeConfig('routing: {policy: fastest}\n')
    await command.says(/error: the new configuration is refused, the old one stays\nautoglm\.yaml:2:19 routing\.policy: "fastest" is not allowed/)
    assert.deepEqual(await listModels(), ['one', 'other'])

    command.stdout = ''
    writeConfig('')
    await command.says(/configuration reloaded/)
    assert.deepEqual(await listModels(), ['one'])
  }) // prettier-ignore

  it('reads its file again at SIGHUP', async () => {
    command.kill('SIGHUP')
    await command.says(/configuration reloaded/)
  })

  it('ends with code 0 at SIGTERM', async () => {
    command.kill('SIGTERM')
    const { code, stdout, stderr } = await command.exit()
    assert.equal(code, 0)
    assert.match(stdout, /\nstopping: requests in flight have up to 30 s to finish; Ctrl-C again stops at once\nstopped\n$/)
    assert.equal(stderr, '')
  }) // prettier-ignore

  /** Begins an answer that the test ends. */
  async function beginAnswer(): Promise<{ upstream: ServerResponse; answer: Promise<string> }> {
    const begun = Promise.withResolvers<ServerResponse>()
    fake.onChat = (_body, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write(chunk('Once'))
      begun.resolve(response)
    }
    const body = JSON.stringify({ model: 'one', stream: true, messages: [{ role: 'user', content: 'x' }] })
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    })
    const answer = response.text()
    answer.catch(() => {})
    return { upstream: await begun.promise, answer }
  }

  it('lets requests in flight finish when it is stopped', async () => {
    const { upstream, answer } = await beginAnswer()
    command.kill('SIGINT')
    await command.says(/stopping/)
    upstream.end(`${chunk(' upon', 'stop')}data: [DONE]\n\n`)
    assert.match(await answer, /Once[\s\S]*upon[\s\S]*\[DONE\]/)
    assert.equal((await command.exit()).code, 0)
  })

  it('takes one Ctrl-C that arrives twice, as npm sends it, for one', async () => {
    const { upstream, answer } = await beginAnswer()
    // Sooner after each other than anybody presses a key, however slow the machine is.
    command.kill('SIGINT')
    command.kill('SIGINT')
    await command.says(/stopping/)
    upstream.end(`${chunk(' upon', 'stop')}data: [DONE]\n\n`)
    assert.match(await answer, /upon/)
    assert.equal((await command.exit()).code, 0)
  })

  for (const [signal, expected] of [['SIGINT', 130], ['SIGTERM', 143]] as const) {
    it(`stops at once at a second ${signal}`, async () => {
      const { answer } = await beginAnswer()
      command.kill(signal)
      await command.says(/stopping/)
      // A person presses again; how soon it counts as another press is for the program to say.
      const pressing = setInterval(() => command.kill(signal), 50)
      const { code } = await command.exit()
      clearInterval(pressing)
      assert.equal(code, expected)
      await assert.rejects(answer)
    })
  } // prettier-ignore

  it('goes on when nobody reads what it writes any more', async () => {
    command.child.stdout?.destroy()
    command.child.stderr?.destroy()
    command.kill('SIGHUP')
    writeConfig('routing: {aliases: {other: one}}\n')
    await eventually('the file is in force', async () => (await listModels()).length === 2)
    assert.deepEqual(await listModels(), ['one', 'other'])
  })
})

/** Runs a line of the banner as a shell would. */
function shell(line: string): Promise<{ code: number; stdout: string }> {
  return new Promise((resolve) =>
    execFile('sh', ['-c', line], (error, stdout) => resolve({ code: error ? 1 : 0, stdout })),
  )
}
