import type { Command } from 'commander'
import { collect, urlFlag } from './options.ts'
import type { ListOptions } from './task-list.ts'
import type { SubmitOptions } from './task-request.ts'
import type { WatchOptions } from './task-watch.ts'
import { commandName } from '../core/command-name.ts'

type ShowOptions = WatchOptions & { body?: boolean }

const submitHelp = `
FILE holds the body of a call (with messages or prompt; for others, add --endpoint) or a whole task: an object with
endpoint and body, or with steps. - is standard input.

  ${commandName} task submit --model tiny --prompt 'Tell me a story.' --wait
  ${commandName} task submit request.json --priority batch --deadline 12h
`

/** Adds `task` and its subcommands. `onResult` is given the exit code of the one that ran. */
export function addTaskCommands(program: Command, onResult: (code: number) => void): void {
  const task = program.command('task').description('submit, list, follow and cancel asynchronous tasks')

  task
    .command('submit [file]')
    .description('submit a task and print its id')
    .option(...urlFlag)
    .option('--model <name>', 'model to ask; stronger than that of the file')
    .option('--prompt <text>', 'in place of a file: what to ask')
    .option('--endpoint <path>', 'route that the body is for, such as /v1/embeddings')
    .option('--priority <band>', 'urgent, high, normal, low, batch, or a number from 0 to 100')
    .option('--run-at <time>', 'not before: 2026-01-31T18:00:00Z, or 10m, 2h, 1d from now')
    .option('--deadline <time>', 'expires when it has not ended by then')
    .option('--max-attempts <number>', 'attempts before it is dead')
    .option('--metadata <key=value>', 'a pair of your own; can be given again', collect)
    .option('--webhook <url>', 'address that is told of the end')
    .option('--idempotency-key <key>', 'the same key and body give the same task')
    .option('--wait', 'follow it, and print its result')
    .option('--json', 'print JSON')
    .addHelpText('after', submitHelp)
    .action(async (file: string | undefined, options: SubmitOptions) =>
      onResult(await (await import('./task-submit.ts')).submitTask(file, options)),
    )

  task
    .command('list')
    .description('list tasks, newest first')
    .option(...urlFlag)
    .option('--status <status>', 'queued, running, dead, …; can be given again', collect)
    .option('--priority <band>', 'only of this priority')
    .option('--model <name>', 'only of this model')
    .option('--created-after <time>', 'Unix seconds, or ISO 8601')
    .option('--created-before <time>', 'Unix seconds, or ISO 8601')
    .option('--metadata <key=value>', 'only with this pair; can be given again', collect)
    .option('--batch <id>', 'only the lines of this batch; none: only tasks of no batch')
    .option('--limit <number>', 'how many (default: 20)')
    .option('--oldest-first', 'begin with the oldest')
    .option('--json', 'print JSON')
    .action(async (options: ListOptions) =>
      onResult(await (await import('./task-list.ts')).listTasks(options)),
    )

  task
    .command('show <id>')
    .description('show one task: its history, its result')
    .option(...urlFlag)
    .option('--body', 'show what was submitted, too')
    .option('--json', 'print JSON')
    .action(async (id: string, options: ShowOptions) =>
      onResult(await (await import('./task-list.ts')).showTask(id, options)),
    )

  task
    .command('watch <id>')
    .description('follow a task to its end, and print its result')
    .option(...urlFlag)
    .option('--json', 'print the whole task as JSON at the end')
    .action(async (id: string, options: WatchOptions) =>
      onResult(await (await import('./task-watch.ts')).watchTask(id, options)),
    )

  for (const [action, description] of [
    ['cancel', 'cancel tasks: at once while they wait, within a second while they run'],
    ['requeue', 'run tasks again that are dead, cancelled or expired'],
  ] as const) {
    task
      .command(`${action} <ids...>`)
      .description(description)
      .option(...urlFlag)
      .action(async (ids: string[], options: { url?: string }) =>
        onResult(await (await import('./task-change.ts')).changeTasks(action, ids, options)),
      )
  }
}
