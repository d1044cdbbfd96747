// SPDX-License-Identifier: GPL-3.0-or-later
// A Flamenco 3 job type: put this file into the `scripts` folder beside flamenco-manager and restart it.
// Workers need Blender with the Effigy extension; see docs/farm.md.

const JOB_TYPE = {
    label: "Effigy Render",
    description: "Effigy avatars, with the EFFIGY engine or composited with Cycles or EEVEE. A task that is run again renders only what is missing.",
    settings: [
        { key: "frames", type: "string", required: true,
          eval: "f'{C.scene.frame_start}-{C.scene.frame_end}'",
          description: "Frames to render, such as '47', '1-30' or '3, 5-10'" },
        { key: "chunk_size", type: "int32", default: 8, visible: "submission",
          description: "Frames in one task. Blender and its link to the backend start once a task" },
        { key: "render_output_path", type: "string", subtype: "file_path", required: true,
          eval: "bpy.path.abspath(C.scene.render.filepath)",
          description: "Where pictures go, as in Output Properties, such as /shots/010/######" },
        { key: "backend", type: "string", default: "", visible: "submission",
          description: "Address of the Effigy backend; empty: each worker's own EFFIGY_ADDRESS" },
        { key: "blendfile", type: "string", required: true, visible: "web",
          description: "The file to render" },
    ],
};

function compileJob(job) {
    const settings = job.settings;
    const renderTasks = [];
    for (const chunk of frameChunker(settings.frames, settings.chunk_size)) {
        const task = author.Task(`render-${chunk}`, "blender");
        task.addCommand(blender(settings, ["--frames", chunk, "--missing"]));
        renderTasks.push(task);
        job.addTask(task);
    }
    // The last word: fails, and lists them, where any frame is missing or not whole.
    const check = author.Task("check", "blender");
    check.addCommand(blender(settings, ["--frames", settings.frames, "--check"]));
    for (const task of renderTasks) {
        check.addDependency(task);
    }
    job.addTask(check);
}

function blender(settings, options) {
    const address = settings.backend ? ["--address", settings.backend] : [];
    return author.Command("blender-render", {
        exe: "{blender}",
        exeArgs: "{blenderArgs}",
        argsBefore: [],
        blendfile: settings.blendfile,
        args: ["--command", "effigy_render", "--output", settings.render_output_path, ...address, ...options],
    });
}
